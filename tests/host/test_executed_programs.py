# SPDX-License-Identifier: GPL-2.0-or-later
"""Which program it was that a process ran: arguments as they were given, of processes from before, too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict

import pytest

from kleaktrace.edge.tracing.tracer import Tracer

pytestmark = pytest.mark.host

ODD = [b"", b" ", b"two\nlines", b"\xff\xfe", "ä…".encode(), b"\x1b[31m", b"-c"]


def programs_of(tracer: Tracer, comm: bytes) -> dict[int, set[tuple[str, ...]]]:
    """By process: what it ran when it allocated under this name. Nothing is traced any more."""
    tracer.pause()
    found: defaultdict[int, set[tuple[str, ...]]] = defaultdict(set)
    while tracer.polled < tracer.reported:
        rows = tracer.poll().allocations
        for row in rows[rows["comm"] == comm]:
            tgid = int(row["tgid"])
            found[tgid].add(tracer.names.programs.arguments(tgid, int(row["time_ns"])))
    return found


def test_arguments_are_those_the_program_was_given() -> None:
    with Tracer() as tracer:
        subprocess.run([b"kt-args", *ODD], executable="/bin/true", check=True)
        subprocess.run([b"kt-args", b"x" * 1000], executable="/bin/true", check=True)
        told = set().union(*programs_of(tracer, b"true").values())
    assert ("kt-args", *(argument.decode(errors="replace") for argument in ODD)) in told
    assert ("kt-args", "x" * (256 - len("kt-args") - 1) + "…") in told


def test_a_process_is_another_program_after_exec() -> None:
    script = "read line < /dev/null; exec /bin/cat /dev/null"
    with Tracer() as tracer, subprocess.Popen(["sh", "-c", script, "kt-shell"]) as process:
        process.wait()
        told = programs_of(tracer, b"sh")[process.pid]
        later = tracer.names.programs.arguments(process.pid, time.monotonic_ns())
    assert ("sh", "-c", script, "kt-shell") in told
    assert later == ("/bin/cat", "/dev/null")


def test_of_a_process_from_before_the_arguments_are_known_too() -> None:
    command = (sys.executable, "-c", "print(flush=True); input()", "kt-before")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        with Tracer() as tracer:
            assert tracer.names.programs.arguments(one.pid, time.monotonic_ns()) == command
            assert tracer.names.programs.arguments(os.getpid(), time.monotonic_ns())[0]
        one.communicate(b"\n")
