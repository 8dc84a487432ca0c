# SPDX-License-Identifier: GPL-2.0-or-later
"""Running programs with their output in a log, and installing packages."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from guest_lib.errors import GuestError
from guest_lib.progress import Progress

_STEP = re.compile(rb"  [A-Z]{2,10} ")


def run_logged(
    command: Sequence[str],
    log: Path,
    what: str,
    fix: str,
    *,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
    steps: int = 0,
) -> None:
    """Run a command with its output in `log`; say how far it is, and show the log's end on failure.

    steps: of a kernel's build, how many there will be, about; 0: it is none.
    """
    with log.open("ab") as output:
        output.write(f"\n$ {shlex.join(command)}\n".encode())
        output.flush()
        progress, counted = Progress(), StepCounter(log)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=directory
        )

        def words(took: str) -> str:
            share = f"{counted.count():,} of about {steps:,} steps: " if steps else ""
            return f"… {took}: {share}{last_lines(log, 1).strip()}"

        try:
            while True:
                try:
                    status = process.wait(timeout=progress.every_s)
                    break
                except subprocess.TimeoutExpired:
                    progress.tell(words)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            progress.end()
    if status != 0:
        raise GuestError(f"{what} (exit status {status}), log {log}:\n{last_lines(log, 15)}", fix)


class StepCounter:
    """Counts the steps of a kernel's build, as kbuild prints them, from where it begins to count."""

    def __init__(self, log: Path) -> None:
        self._log, self._at, self._count, self._rest = log, log.stat().st_size, 0, b""

    def count(self) -> int:
        """Those so far."""
        with self._log.open("rb") as stream:
            stream.seek(self._at)
            data = stream.read()
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._count += sum(1 for line in lines if _STEP.match(line))
        return self._count


def last_lines(path: Path, count: int) -> str:
    """Return the last lines of a log, without the rest of it ever being in memory."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 200 * count - 800))
        text = stream.read().decode(errors="replace")
    return "\n".join(line.strip("\r") for line in text.rstrip().splitlines()[-count:])
