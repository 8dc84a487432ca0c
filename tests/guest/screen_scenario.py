# SPDX-License-Identifier: GPL-2.0-or-later
"""Sits at the screen of trace in the guest, has the lab leak, scans by a key, and quits.

screen_scenario.py OUT LAB.KO

Leaves in OUT: trace.json, screen (what came to the terminal), status.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

OUT, MODULE = Path(sys.argv[1]), sys.argv[2]
LAB = Path("/sys/kernel/debug/kleaktrace_lab/do")
ROWS, COLUMNS = 40, 120
STEERING = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>][0-9A-Z]?")
PATIENCE_S = 240


class Terminal:
    """kleaktrace on a terminal of its own, and all that it has written there."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(".venv/bin/kleaktrace", ["kleaktrace", *arguments])
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while some := os.read(self._terminal, 1 << 16):
                self._written += some
        except OSError:  # how Linux says that nobody has it open any more
            pass

    def text(self) -> str:
        return STEERING.sub(b"", bytes(self._written)).decode(errors="replace")

    def press(self, key: str) -> None:
        os.write(self._terminal, key.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        until = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.text())) is None:
            if time.monotonic() > until:
                (OUT / "screen").write_text(self.text())
                sys.exit(f"{pattern!r} did not come")
            time.sleep(0.5)
        return found

    def end(self) -> int:
        """Wait for its end."""
        _, status = os.waitpid(self.pid, 0)
        self._reader.join()
        return os.waitstatus_to_exitcode(status)


def main() -> None:
    terminal = Terminal("trace", "--module", "kleaktrace_lab", "--json", f"{OUT}/trace.json")
    terminal.wait_for("Scan")
    subprocess.run(["insmod", MODULE, "init_leaks=0"], check=True)
    for case in ("leak_kzalloc_1520",) * 4 + ("freed_at_once", "referenced"):
        LAB.write_text(case)
    terminal.wait_for("lab_leak_kzalloc")
    terminal.press("s")
    confirmed = terminal.wait_for(r"scanned: (\d+) confirmed")[1]
    terminal.wait_for(rf"confirmed \({confirmed}\): ")  # the pane is drawn anew by a look that comes after the scan
    terminal.press("q")
    status = terminal.end()
    (OUT / "screen").write_text(terminal.text())
    (OUT / "status").write_text(str(status))


main()
