# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace export`: writes a capture in another program's format. Needs no privilege and no bcc."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import click

from kleaktrace.commands.options import OutputFile
from kleaktrace.commands.source_lines import debug_dir_option, with_source_lines
from kleaktrace.core.recording import Recording
from kleaktrace.errors import UsageError
from kleaktrace.views.exports.formats import FORMATS

_PARQUET = "parquet"
_READERS = "\b\n" + "\n".join(
    f"{name:12} {reader}"
    for name, reader in {
        **{name: known.reader for name, known in FORMATS.items()},
        _PARQUET: "DuckDB, Spark, Trino, ClickHouse: -o DIRECTORY",
    }.items()
)


@click.command(epilog=f"What reads each format:\n\n{_READERS}")
@click.option(
    "--format", "name", metavar="F", type=click.Choice([*FORMATS, _PARQUET]), required=True, help="The format."
)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to; - for standard output, as without it.")
@debug_dir_option
@click.argument("capture", metavar="CAPTURE", type=click.Path(path_type=Path))
def export(name: str, output: str, debug_dirs: tuple[Path, ...], capture: Path) -> None:
    """Judge a capture, and write its call stacks, counters and verdicts in a format that other programs read."""
    from kleaktrace.edge.capture.capture_reader import read_capture
    from kleaktrace.views.exports.material import frames_of, material

    if name == _PARQUET:
        if output == "-":
            raise UsageError("Parquet is a file for each table", "give a directory: -o DIRECTORY")
        _write_parquet(read_capture(capture), capture.resolve().name, Path(output))
        return
    chosen = FORMATS[name]
    if chosen.is_binary and output == "-" and sys.stdout.isatty():
        raise UsageError(f"{name} is a binary format, and standard output is a terminal", "give a file: -o FILE")
    file = OutputFile(output)
    made = material(read_capture(capture))
    if chosen.has_source_lines:
        made = replace(made, report=with_source_lines(made.report, frames_of(made), debug_dirs))
    file.write(chosen.export(made))


def _write_parquet(recording: Recording, name: str, directory: Path) -> None:
    """Write the tables below a directory, beside those of other captures and hosts."""
    from kleaktrace.core.tables.recording_tables import recording_tables
    from kleaktrace.edge.database.duckdb_tables import write_parquet

    tables = recording_tables(recording, recording.report(recording.judge()))
    started = recording.started.astimezone(UTC)
    host = recording.kernel.host or "unknown"
    write_parquet(tables, directory, f"{started:%Y-%m-%d}", host, f"{name}-{started:%H%M%S}")
