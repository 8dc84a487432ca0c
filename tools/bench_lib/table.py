# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows the figures."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench_lib.figures import Figure, Part
from bench_lib.seen import is_far


def show(console: Console, part: Part) -> None:
    """Print a part: a table, the notes to its figures, and how it was measured."""
    table = Table(title=part.name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what")
    for heading in ("median", "±", "min … max"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for figure in part.figures:
        table.add_row(*row(figure, judged=not part.others))
    console.print(table)
    for figure in part.figures:
        if far := is_far(figure):
            console.print(f"[bold yellow]{escape(figure.what)}[/]: {escape(far)}", highlight=False)
        if figure.note:
            console.print(f"{escape(figure.what)}: {escape(figure.note)}", highlight=False)
    if part.others:
        console.print(
            f"[bold red]others traced as well[/], with {len(part.others)} programs ({escape(part.others[0])}, …): they "
            "cost the loads too, so this says nothing about targets"
        )
    console.print(escape(part.how), style="dim", highlight=False)
    console.print()


def row(figure: Figure, judged: bool) -> tuple[str, ...]:
    """The cells of a figure."""
    many = len(figure.rounds) > 1
    target = "" if figure.target is None else str(figure.target)
    if figure.target is not None and figure.rounds:
        words = {True: "[green]met[/]", False: "[bold red]missed[/]", None: "[yellow]unclear[/]"}
        target += f" {words[figure.met if judged else None]}"
    return (
        escape(figure.what),
        "–" if figure.median is None else number(figure.median),
        number(figure.deviation) if many and figure.deviation is not None else "",
        f"{number(min(figure.rounds))} … {number(max(figure.rounds))}" if many else "",
        figure.unit,
        target,
    )


def number(value: float) -> str:
    """Three significant digits, or all of those before the point."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"
