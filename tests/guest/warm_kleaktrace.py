# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs kleaktrace for warm_kleaktrace.sh, each time in a child: what an emulated guest imports in ten seconds is there.

warm_kleaktrace.py DIRECTORY: reads numbers of processes from DIRECTORY/requests. Each is a client's, which has written
its arguments to DIRECTORY/PID.arguments, and reads a status from the FIFO DIRECTORY/PID.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bcc  # type: ignore[import-untyped]  # noqa: F401

from kleaktrace import cli
from kleaktrace.commands import inject, report, run, trace  # noqa: F401
from kleaktrace.views.documents import report as document  # noqa: F401
from kleaktrace.views.terminal import report as view  # noqa: F401

DIRECTORY = Path(sys.argv[1])


def serve(client: int) -> int:
    """Be kleaktrace, as the client would be."""
    process = Path(f"/proc/{client}")
    for number in range(3):
        os.dup2(os.open(process / "fd" / str(number), os.O_RDWR if number == 0 else os.O_WRONLY | os.O_APPEND), number)
    os.chdir((process / "cwd").readlink())
    os.environ.clear()
    for pair in (process / "environ").read_bytes().split(b"\0"):
        name, _, value = pair.partition(b"=")
        if name:
            os.environb[name] = value
    sys.argv = ["kleaktrace", *(DIRECTORY / f"{client}.arguments").read_text().split("\0")[:-1]]
    return cli._run()


def main() -> None:
    """Serve one after the other, beside each other: a command may itself set marks."""
    # For writing, too: it never comes to an end.
    with os.fdopen(os.open(DIRECTORY / "requests", os.O_RDWR)) as requests:
        for line in requests:
            if os.fork() == 0:
                answer(int(line))


def answer(client: int) -> None:
    """Have the client end as kleaktrace does, and end."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = serve(client)
        finally:
            sys.stdout.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    (DIRECTORY / str(client)).write_text(f"{status}\n")
    os._exit(0)


main()
