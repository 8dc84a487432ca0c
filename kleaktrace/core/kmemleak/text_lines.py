# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of a text with the number they have there: stages that cut, join and decode lines keep it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_LINE = 4096
"""No line of a report comes near this length; longer ones are looked at in pieces, or never."""


class Line(NamedTuple):
    """One line without its end. `number` counts from 1, and is that of the line where it began in the text."""

    number: int
    text: str


def lines_of(text: str, first: int = 1) -> Iterator[Line]:
    """The lines of a text; the last one only if there is something on it. Carriage returns stay: they are blanks."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, first):
        yield Line(number, line)
