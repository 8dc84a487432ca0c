# SPDX-License-Identifier: GPL-2.0-or-later
"""What a query gave: a table for people, tab-separated lines for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kleaktrace.terminal import clean

Row = Sequence[Any]


def show(console: Console, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Print a table; of a list, each item has a line."""
    rows = list(rows)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for place, name in enumerate(columns):
        numbers = rows and all(isinstance(row[place], int | float | None) for row in rows)
        table.add_column(Text(clean(name)), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("\n".join(map(_word, value if isinstance(value, list) else [value]))) for value in row))
    console.print(table)


def lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A line of names, then one for each row; items of a list are joined by `; `, and no value holds a tab."""
    for row in (columns, *rows):
        yield "\t".join("; ".join(map(_word, value if isinstance(value, list) else [value])) for value in row) + "\n"


def _word(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat(sep=" ") if isinstance(value, datetime) else clean(str(value))
