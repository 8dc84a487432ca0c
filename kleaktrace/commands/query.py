# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace query`: asks captures by SQL. Needs no privilege and no bcc, but DuckDB."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("captures", metavar="CAPTURE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("sql", metavar="SQL")
def query(captures: tuple[Path, ...], sql: str) -> None:
    """Ask one or several captures by SQL, over the tables stacks, counters, outstanding, lifetimes, suspects, loss and
    machine.

    Every table has the columns `capture` and `host` in front. `DESCRIBE stacks` tells the others; docs/queries.md has
    questions to begin with. On a terminal the answer is a table, elsewhere tab-separated lines.
    """
    from kleaktrace.core.tables.recording_tables import recording_tables
    from kleaktrace.edge.capture.capture_reader import read_capture
    from kleaktrace.edge.database.duckdb_tables import Source, ask
    from kleaktrace.views.terminal import answer as view
    from kleaktrace.views.terminal import console

    sources = []
    for capture in captures:
        recording = read_capture(capture)
        tables = recording_tables(recording, recording.report(recording.judge()))
        sources.append(Source(str(capture), recording.kernel.host, tables))
    answer = ask(sources, sql)
    if sys.stdout.isatty():
        view.show(console.make(stderr=False), answer.columns, answer.rows)
    else:
        sys.stdout.writelines(view.lines(answer.columns, answer.rows))
