# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of recordings in DuckDB, in memory: asked by SQL, or written as Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kleaktrace.core.tables.table import ColumnType, Table
from kleaktrace.errors import EnvironmentRefusal, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

_FETCHES_EXTENSIONS = "autoinstall_known_extensions"
"""A setting of DuckDB: whether it fetches what a statement needs from the network, behind everybody's back."""


@dataclass(frozen=True, slots=True)
class Source:
    """The tables of one recording. capture, host: what its rows have in the columns of that name."""

    capture: str
    host: str
    tables: Sequence[Table]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave: its columns by name, and rows of plain Python values."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


def ask(sources: Iterable[Source], sql: str) -> Answer:
    """Run a statement over the tables of all sources, with the columns `capture` and `host` in front.

    Raises `UsageError` with DuckDB's words for what it can't run, `EnvironmentRefusal` without DuckDB.
    """
    connection = _connection()
    names: list[str] = []
    for source in sources:
        origin = f"{_text(source.capture)} AS capture, {_text(source.host)} AS host"
        for table in source.tables:
            into = f"INSERT INTO {table.name}" if table.name in names else f"CREATE TABLE {table.name} AS"
            with _registered(connection, table) as selected:
                connection.execute(f"{into} SELECT {origin}, {selected}")
            names += [] if table.name in names else [table.name]
    with _refusals(f"the tables are {', '.join(names)}; `DESCRIBE {names[0]}` tells a table's columns"):
        connection.execute(sql)
        columns = [column[0] for column in connection.description or ()]
        return Answer(columns, connection.fetchall() if columns else [])


def write_parquet(tables: Sequence[Table], directory: Path, date: str, host: str, name: str) -> list[Path]:
    """Write each table as DIRECTORY/TABLE/date=DATE/host=HOST/NAME.parquet, in place of one of that name.

    The files are readable by their owner only. Raises `UsageError` for what can't be written.
    """
    connection = _connection()
    below = Path(f"date={quote(date, safe='')}") / f"host={quote(host, safe='')}" / f"{_file_name(name)}.parquet"
    paths = [directory / table.name / below for table in tables]
    with _private(), _refusals("give a directory that can be written, on a disk with room"):
        for table, path in zip(tables, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(connection, table, path)
    return paths


def _file_name(name: str) -> str:
    """A name without what paths give a meaning. Spark, Hive and Trino pass over files that begin with `_` or `.`."""
    quoted = quote(name, safe="")
    return f"%{ord(quoted[0]):02X}{quoted[1:]}" if quoted.startswith(("_", ".")) else quoted


def _write(connection: duckdb.DuckDBPyConnection, table: Table, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # whoever reads the directory passes over it
    try:
        with _registered(connection, table) as selected:
            to = f"{_text(str(unfinished))} (FORMAT parquet, COMPRESSION zstd)"
            connection.execute(f"COPY (SELECT {selected}) TO {to}")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _connection() -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError as error:
        raise EnvironmentRefusal("DuckDB is not installed", "pip install 'kleaktrace[query]', or duckdb") from error
    return duckdb.connect(":memory:", config={_FETCHES_EXTENSIONS: False})


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, table: Table) -> Iterator[str]:
    """Give what selects a table's columns, each of its type even if there are no rows."""
    connection.register("arrays", {name: column.values for name, column in table.columns.items()})
    try:
        yield f"{', '.join(_cast(name, column.type) for name, column in table.columns.items())} FROM arrays"
    finally:
        connection.unregister("arrays")


def _cast(name: str, kind: ColumnType) -> str:
    return f'CAST("{name}" AS {kind}) AS "{name}"'


def _text(value: str) -> str:
    """As a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


@contextmanager
def _refusals(fix: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise UsageError(_on_one_line(str(error)), fix) from error
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}", fix) from error


def _on_one_line(message: str) -> str:
    """DuckDB's words, without the line of SQL that it repeats below them, but with its number."""
    what, line, rest = message.partition("\n\nLINE ")
    where = f" (line {rest.partition(':')[0]})" if line else ""
    return " ".join(what.split()) + where


@contextmanager
def _private() -> Iterator[None]:
    """Files and directories made meanwhile are their owner's only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
