# SPDX-License-Identifier: GPL-2.0-or-later
"""What the processes run that are there already: /proc/PID/cmdline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kleaktrace.core.symbols.executed_programs import MOST_BYTES

PROC = Path("/proc")


def running_programs() -> Iterator[tuple[int, bytes]]:
    """Process and arguments, each of them ended by a NUL unless it is cut, of all that have some."""
    for directory in PROC.iterdir():
        if directory.name.isdecimal():
            with contextlib.suppress(OSError), (directory / "cmdline").open("rb") as file:  # it may have ended
                arguments = file.read(MOST_BYTES)
                # A process may write what it likes there (setproctitle).
                ended = len(arguments) == MOST_BYTES or arguments.endswith(b"\0")
                if arguments:
                    yield int(directory.name), arguments if ended else arguments + b"\0"
