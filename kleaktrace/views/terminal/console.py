# SPDX-License-Identifier: GPL-2.0-or-later
"""The console that views print to."""

from __future__ import annotations

import sys

from rich.console import Console

_UNBOUNDED = 10_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line: rich would exit with 1, which means confirmed leaks."""
        raise BrokenPipeError


def make(stderr: bool = False) -> Console:
    """A console as wide as the terminal; into a file or pipe nothing is cut or wrapped."""
    stream = sys.stderr if stderr else sys.stdout
    return _Console(stderr=stderr, width=None if stream.isatty() else _UNBOUNDED, highlight=False)
