# SPDX-License-Identifier: GPL-2.0-or-later
"""The console that views print to."""

from __future__ import annotations

import sys
from functools import cache

from rich.console import Console

_UNBOUNDED = 10_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command line: rich would exit with 1, which means confirmed leaks."""
        raise BrokenPipeError


def make(stderr: bool = False) -> Console:
    """A console as wide as the terminal; into a file or pipe nothing is cut or wrapped.

    That on standard error is one for all: what is printed while a spinner turns there must go above it.
    """
    if stderr:
        return _on_standard_error(sys.stderr.isatty())
    return _Console(width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False)


@cache
def _on_standard_error(is_terminal: bool) -> Console:
    return _Console(stderr=True, width=None if is_terminal else _UNBOUNDED, highlight=False)
