"""The console that views print to."""

from __future__ import annotations

import sys

from rich.console import Console

_UNBOUNDED = 10_000


def make(stderr: bool = False) -> Console:
    """A console as wide as the terminal; into a file or pipe nothing is cut or wrapped."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _UNBOUNDED, highlight=False)
