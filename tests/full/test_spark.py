# SPDX-License-Identifier: GPL-2.0-or-later
"""Parquet files as Apache Spark reads them: the same as DuckDB, down to the last value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import exported
import pytest
from parquet_files import Captures, export_all
from questions import CAPTURES, QUESTIONS, lossy, sources

from kleaktrace.core.report import Kernel
from kleaktrace.core.tables.recording_tables import recording_tables
from kleaktrace.core.tables.table import ColumnType
from kleaktrace.edge.database.duckdb_tables import ask

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

pytestmark = pytest.mark.full

Answers = Callable[[str], list[tuple[Any, ...]]]

TABLES = ["counters", "lifetimes", "loss", "machine", "outstanding", "stacks", "suspects"]
TYPES = {
    ColumnType.TEXT: "string",
    ColumnType.TEXTS: "array<string>",
    ColumnType.INTEGER: "bigint",
    ColumnType.REAL: "double",
    ColumnType.TIME: "timestamp_ntz",
    ColumnType.TRUTH: "boolean",
}
PARTITIONS = [("date", "date"), ("host", "string")]
SPARK_SAYS = {
    "list(": "collect_list(",
    "arg_max(": "max_by(",
    "arg_min(": "min_by(",
    "to_seconds(": "make_dt_interval(0, 0, 0, ",
}
"""What Spark's SQL has other words for; the rest of the questions is the same."""


def captures() -> Captures:
    """From several hosts and two days; the names of two are such as Spark takes for those of unfinished files."""
    return {
        "all.cap": exported.everything(),
        "_night.cap": replace(lossy(), kernel=Kernel("6.1.0", "aarch64", "arm-2")),
        ".again.cap": replace(exported.everything(), started=datetime(2026, 1, 2, 23, 59, 59, 123456, UTC)),
        "hostile.cap": replace(exported.hostile(), kernel=Kernel("6.12.0", "x86_64", "../x'y")),
        "nothing.cap": exported.nothing(),
    }


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(captures(), tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="module")
def select(spark: SparkSession, several: Path) -> Callable[[str], list[Row]]:
    """Give a function that asks Spark a question about the tables of all of them."""
    for table in TABLES:
        read(spark, several, table).createOrReplaceTempView(table)
    return lambda sql: spark.sql(sql).collect()


def read(spark: SparkSession, directory: Path, table: str) -> DataFrame:
    return spark.read.parquet(str(directory / table))


def in_order(rows: list[Any]) -> list[tuple[Any, ...]]:
    return sorted(map(tuple, rows), key=repr)


@pytest.mark.parametrize("table", TABLES)
def test_every_value_is_the_one_that_duckdb_reads(spark: SparkSession, several: Path, table: str) -> None:
    with duckdb.connect(":memory:") as connection:
        seen = connection.read_parquet(str(several / table / "**" / "*.parquet"), hive_partitioning=True)
        columns, rows = seen.columns, seen.fetchall()
    found = read(spark, several, table)
    assert found.columns == columns
    assert in_order(found.collect()) == in_order(rows)
    assert rows


def test_every_column_has_its_type(spark: SparkSession, several: Path) -> None:
    made = exported.everything()
    for table in recording_tables(made, made.report(made.judge())):
        wanted = [(name, TYPES[column.type]) for name, column in table.columns.items()]
        assert read(spark, several, table.name).dtypes == wanted + PARTITIONS, table.name


def test_counts_and_sums(select: Callable[[str], list[Row]]) -> None:
    recorded = {name: made.report(made.judge()).totals for name, made in captures().items()}
    objects = sum(one.outstanding for one in recorded.values())
    size = sum(one.outstanding_bytes for one in recorded.values())
    assert (objects, size) == (64 + 1 + 64 + 1, 13120 + 128 + 13120 + 128)
    assert select("SELECT count(*), sum(bytes) FROM outstanding") == [(objects, size)]
    assert select("SELECT sum(outstanding), sum(outstanding_bytes) FROM stacks") == [(objects, size)]
    assert select("SELECT count(*), sum(outstanding), sum(outstanding_bytes) FROM machine") == [
        (len(recorded), objects, size)
    ]
    assert select("SELECT sum(events), count(frees) FROM loss") == [(7, 0)]


def test_the_date_and_the_host_are_columns(select: Callable[[str], list[Row]]) -> None:
    first, second = date(2026, 1, 1), date(2026, 1, 2)
    assert in_order(select("SELECT date, host, count(*), sum(outstanding_bytes) FROM machine GROUP BY ALL")) == [
        (first, "../x'y", 1, 128),
        (first, "arm-2", 1, 128),
        (first, "lab", 1, 13120),
        (first, "unknown", 1, 0),
        (second, "lab", 1, 13120),
    ]
    assert select("SELECT count(*) FROM outstanding WHERE date > '2026-01-01' AND host = 'lab'") == [(64,)]


def test_a_host_of_digits_is_text_if_spark_is_told_not_to_guess(spark: SparkSession, tmp_path: Path) -> None:
    export_all({"all.cap": replace(exported.everything(), kernel=Kernel("6.12.0", "x86_64", "007"))}, tmp_path)
    guesses = "spark.sql.sources.partitionColumnTypeInference.enabled"
    spark.conf.set(guesses, "false")
    try:
        assert read(spark, tmp_path, "machine").select("date", "host").collect() == [("2026-01-01", "007")]
    finally:
        spark.conf.unset(guesses)


def test_addresses_and_keys(select: Callable[[str], list[Row]]) -> None:
    """Text in files; as numbers, addresses of the kernel are negative."""
    one = "SELECT address, CAST(conv(substr(address, 3), 16, -10) AS bigint) FROM suspects WHERE host = 'arm-2'"
    assert select(one) == [(hex(exported.A), exported.A - (1 << 64))]
    assert select("SELECT count(*) FROM outstanding WHERE NOT address RLIKE '^0x[0-9a-f]{16}$'") == [(0,)]
    assert select("SELECT count(*) FROM stacks WHERE NOT key RLIKE '^[0-9a-f]{16}$'") == [(0,)]


def test_times_are_utc_wherever_the_reader_is(select: Callable[[str], list[Row]]) -> None:
    begun = datetime(2026, 1, 2, 23, 59, 59, 123456)
    last = begun + timedelta(seconds=2.95)
    assert select("SELECT started FROM machine WHERE date = '2026-01-02'") == [(begun,)]
    assert select("SELECT min(allocated_at), max(allocated_at) FROM outstanding WHERE date = '2026-01-02'") == [
        (begun, last)
    ]


def test_tables_can_be_joined(select: Callable[[str], list[Row]]) -> None:
    found = select(
        "SELECT s.function, s.module, count(*), sum(o.bytes), min(o.address) FROM outstanding o "
        "JOIN stacks s USING (key, host, date) WHERE s.verdict = 'confirmed' AND host = 'lab' "
        "AND array_contains(s.frames, 'drv_probe+0x22/0x100 [drv]') GROUP BY ALL"
    )
    assert found == [("drv_probe", "drv", 4, 512, hex(exported.A))]


def test_what_63_bits_cannot_hold(spark: SparkSession, tmp_path: Path) -> None:
    found = read(spark, export_all({"huge.cap": exported.huge()}, tmp_path), "stacks")
    assert found.select("allocated_bytes").collect() == [((1 << 63) - 1,)]


@pytest.fixture(scope="module")
def answers(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Give a function that asks Spark of what docs/queries.md asks; each table has the capture's name, too."""
    made = {name: make() for name, make in CAPTURES.items()}
    directory = export_all(made, tmp_path_factory.mktemp("questions"))
    session = spark.newSession()
    for table in TABLES:
        read(session, directory, table).selectExpr(
            "*", r"regexp_extract(_metadata.file_name, r'(.*)-\d{6}\.parquet', 1) AS capture"
        ).createOrReplaceTempView(table)

    def answer(question: str) -> list[tuple[Any, ...]]:
        sql = QUESTIONS[question]
        for duckdb_says, spark_says in SPARK_SAYS.items():
            sql = sql.replace(duckdb_says, spark_says)
        return [tuple(row) for row in session.sql(sql).collect()]

    return answer


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_is_that_of_duckdb(answers: Answers, question: str) -> None:
    answer = list(ask(sources(), QUESTIONS[question]).rows)
    assert answer
    assert answers(question) == answer
