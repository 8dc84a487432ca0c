# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong, and progress."""

from __future__ import annotations

import sys

USAGE = 2
ENVIRONMENT = 3
GUEST_DIED = 255


class GuestError(Exception):
    """What went wrong, what to do about it, and the exit status that says so."""

    def __init__(self, what: str, fix: str = "", status: int = ENVIRONMENT) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.status = status


def say(line: str) -> None:
    """Print one line of progress to stderr: stdout belongs to CMD."""
    print(f"guest: {line}", file=sys.stderr, flush=True)
