# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace mark`: begins a new round, from inside the command that `run` traces."""

from __future__ import annotations

import click

from kleaktrace.edge.machine.marks import set_mark


@click.command()
@click.argument("name")
def mark(name: str) -> None:
    """Begin a new round named NAME, inside a command under `kleaktrace run`.

    Marks of the same name compare with each other; if all names differ, all do. What every round leaves behind is a
    leak.
    """
    set_mark(name)
