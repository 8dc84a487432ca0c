# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress of what takes long: on a terminal a line that is written again and again, else a line each minute."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable

from guest_lib.errors import say

_LIVE_S, _PLAIN_S = 1.0, 60.0
_PATIENCE_S = 2.0
"""What takes no longer shows nothing."""
_ERASE = "\r\x1b[K"


class Progress:
    """One thing that takes long. `end` takes its line off the terminal."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.is_live = sys.stderr.isatty()
        self.every_s = _LIVE_S if self.is_live else _PLAIN_S
        self._due = self._started + (_PATIENCE_S if self.is_live else _PLAIN_S)
        self._shown = self._ended = False

    def tell(self, what: Callable[[str], str]) -> None:
        """Say how far it is, if it is time to. what: makes words of how long it has taken."""
        now = time.monotonic()
        if now < self._due or self._ended:
            return
        self._due = now + self.every_s
        line = what(_duration(now - self._started))
        if not self.is_live:
            say(line)
            return
        width = shutil.get_terminal_size().columns - 1
        print(f"{_ERASE}{f'guest: {line}'[:width]}", end="", file=sys.stderr, flush=True)
        self._shown = True

    def end(self) -> None:
        """Tell nothing more."""
        if self._shown and not self._ended:
            print(_ERASE, end="", file=sys.stderr, flush=True)
        self._ended = True


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
