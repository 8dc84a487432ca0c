# SPDX-License-Identifier: GPL-2.0-or-later
"""The console that views print to."""

from __future__ import annotations

import sys
from functools import cache

from rich.console import Console
from rich.text import Text

from kleaktrace.terminal import clean

_UNBOUNDED = 10_000
_HANGING = 2
_NARROW = 12
"""Columns. Where there are fewer, nobody reads more easily for it."""


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


def print_line(console: Console, text: str | Text = "", style: str = "", hanging: int = _HANGING) -> None:
    """Print a line, made safe; what is longer than a terminal is wide goes on below, `hanging` columns further in."""
    told = text if isinstance(text, Text) else Text(clean(text), style=style)
    margin = len(told.plain) - len(told.plain.lstrip(" "))
    width = console.width - margin
    if not console.is_terminal or told.cell_len <= console.width or width - hanging < _NARROW:
        console.print(told, soft_wrap=True)
        return
    first = told[margin:].wrap(console, width)[0]
    rest = told[margin + len(first.plain) :]
    rest = rest[len(rest.plain) - len(rest.plain.lstrip(" ")) :]
    first.rstrip()
    console.print(Text(" " * margin) + first, soft_wrap=True)
    for part in rest.wrap(console, width - hanging):
        part.rstrip()
        console.print(Text(" " * (margin + hanging)) + part, soft_wrap=True)


def say(text: str) -> None:
    """Tell something on standard error, beside the result."""
    print_line(make(stderr=True), f"kleaktrace: {text}")
