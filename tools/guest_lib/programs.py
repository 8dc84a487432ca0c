# SPDX-License-Identifier: GPL-2.0-or-later
"""Running programs with their output in a log, and installing packages."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from guest_lib.errors import GuestError, say


def run_logged(
    command: Sequence[str],
    log: Path,
    what: str,
    fix: str,
    *,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Run a command with its output in `log`; report every minute, and show the log's end on failure."""
    with log.open("ab") as output:
        output.write(f"\n$ {shlex.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=directory
        )
        started = time.monotonic()
        try:
            while True:
                try:
                    status = process.wait(timeout=60)
                    break
                except subprocess.TimeoutExpired:
                    say(f"… {(time.monotonic() - started) / 60:.0f} min: {last_lines(log, 1)}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status != 0:
        raise GuestError(f"{what} (exit status {status}), log {log}:\n{last_lines(log, 15)}", fix)


def last_lines(path: Path, count: int) -> str:
    """Return the last lines of a log, without the rest of it ever being in memory."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 200 * count - 800))
        text = stream.read().decode(errors="replace")
    return "\n".join(line.strip("\r") for line in text.rstrip().splitlines()[-count:])
