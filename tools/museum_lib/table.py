# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows the rows."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from museum_lib.results import Row


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print the table, what failed, and the sums."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("piece", "subsystem", "kind", "kmemleak", "memleak", "kleaktrace", "leaked", "confirmed and named"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in cells(row)))
    console.print(table)
    for row in rows:
        if row.failure:
            console.print(f"{row.piece.name}: {row.failure}", highlight=False, markup=False)
    console.print(summary(rows), highlight=False, markup=False)


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a row."""
    kmemleak, found = row.kmemleak, row.kleaktrace
    return (
        row.piece.name + (" (repaired)" if row.repaired else ""),
        row.piece.subsystem,
        row.piece.kind,
        "–"
        if kmemleak is None
        else f"{kmemleak.listed} listed, {kmemleak.named} named"
        if kmemleak.listed
        else "silent",
        "–" if row.memleak is None else f"{row.memleak.named} of {row.memleak.listed} stacks",
        "FAILED" if row.failure else "–" if found is None else f"{found.verdict} {'+'.join(found.sources)}".rstrip(),
        str(row.expected),
        "–" if found is None else str(found.named),
    )


def summary(rows: Sequence[Row]) -> str:
    """What it comes to."""
    leaking, repaired = [row for row in rows if not row.repaired], [row for row in rows if row.repaired]
    lines = []
    if leaking:
        said = [f"kleaktrace confirms, names and counts {sum(row.is_right for row in leaking)}"]
        if any(row.kmemleak for row in leaking):
            listed = sum(bool(row.kmemleak and row.kmemleak.listed) for row in leaking)
            named = sum(bool(row.kmemleak and row.kmemleak.named) for row in leaking)
            said.append(f"kmemleak alone lists {listed} after one round, and names {named}")
        if any(row.memleak for row in leaking):
            named = sum(bool(row.memleak and row.memleak.named) for row in leaking)
            said.append(f"memleak has {named} among all that is outstanding")
        lines.append(f"{len(leaking)} leaks: {'; '.join(said)}")
    if repaired:
        lines.append(f"{len(repaired)} repaired: {sum(row.is_right for row in repaired)} clean")
    return "\n".join(lines)
