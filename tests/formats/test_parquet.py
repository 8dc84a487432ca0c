# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import duckdb
import exported
import pytest

from kleaktrace.core.recording import Recording
from kleaktrace.core.tables.recording_tables import recording_tables
from kleaktrace.edge.database.duckdb_tables import write_parquet
from kleaktrace.errors import UsageError

pytestmark = pytest.mark.formats

TABLES = ["counters", "lifetimes", "loss", "machine", "outstanding", "stacks", "suspects"]


def write(made: Recording, directory: Path, host: str = "lab", name: str = "one") -> list[Path]:
    return write_parquet(recording_tables(made, made.report(made.judge())), directory, "2026-01-01", host, name)


def read(directory: Path, table: str, columns: str = "*", where: str = "true") -> list[tuple[Any, ...]]:
    files = str(directory / table / "**" / "*.parquet").replace("'", "''")
    with duckdb.connect(":memory:") as connection:
        sql = f"SELECT {columns} FROM read_parquet('{files}', hive_partitioning = true) WHERE {where}"
        return connection.execute(sql).fetchall()


def test_the_layout_is_hive_s(tmp_path: Path) -> None:
    paths = write(exported.everything(), tmp_path)
    assert sorted(path.parts[len(tmp_path.parts)] for path in paths) == TABLES
    assert paths[0] == tmp_path / "stacks" / "date=2026-01-01" / "host=lab" / "one.parquet"


def test_several_captures_are_one_table(tmp_path: Path) -> None:
    write(exported.everything(), tmp_path)
    write(exported.with_losses(), tmp_path, "other")
    write(exported.everything(), tmp_path)  # again: the same file
    found = read(tmp_path, "machine", "host, date::VARCHAR, verdict, started::VARCHAR, lost_events")
    assert sorted(found) == [
        ("lab", "2026-01-01", "leaks", "2026-01-01 00:00:00", 0),
        ("other", "2026-01-01", "incomplete", "2026-01-01 00:00:00", 7),
    ]


def test_only_the_owner_reads_them(tmp_path: Path) -> None:
    paths = write(exported.everything(), tmp_path / "new")
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []


def test_types_are_those_that_every_database_has(tmp_path: Path) -> None:
    for made, name in ((exported.everything(), "one"), (exported.nothing(), "empty")):
        for path in write(made, tmp_path, name=name):
            with duckdb.connect(":memory:") as connection:
                described = connection.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
            types = {kind for _, kind, *_ in described} - {"DATE"}
            assert types <= {"VARCHAR", "VARCHAR[]", "BIGINT", "DOUBLE", "TIMESTAMP", "BOOLEAN"}, path
    assert read(tmp_path, "outstanding", "count(*), min(address)") == [(64, "0xffff888100010000")]


def test_an_empty_recording_and_a_full_one_fit_together(tmp_path: Path) -> None:
    write(exported.nothing(), tmp_path, name="empty")
    write(exported.everything(), tmp_path)
    for table in TABLES:
        read(tmp_path, table)
    assert read(tmp_path, "stacks", "frames, verdict", "verdict = 'confirmed'") == [
        (["drv_probe+0x22/0x100 [drv]", "do_one_initcall+0x22/0x1000"], "confirmed")
    ]


def test_hostile_names(tmp_path: Path) -> None:
    here = tmp_path / "a" / "b's" / "c"
    write(exported.hostile(), here, host="../../x'y", name="../a/b'; --")
    assert [path for path in tmp_path.rglob("*.parquet") if len(path.relative_to(here).parts) != 4] == []
    assert read(here, "suspects", "host, comm") == [("../../x'y", exported.EVIL_COMM.decode())]
    assert read(here, "stacks", "function") == [(exported.EVIL_NAME,)]


@pytest.mark.parametrize("name", ["_night", ".hidden", "../a/b'; --", "__"])
def test_no_file_is_one_that_spark_passes_over(tmp_path: Path, name: str) -> None:
    paths = write(exported.everything(), tmp_path, name=name)
    assert [path for path in paths if path.name.startswith(("_", "."))] == []
    assert read(tmp_path, "machine", "count(*)") == [(1,)]


def test_what_63_bits_cannot_hold(tmp_path: Path) -> None:
    write(exported.huge(), tmp_path)
    assert read(tmp_path, "stacks", "allocated_bytes") == [((1 << 63) - 1,)]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stacks").write_text("in the way")
    with pytest.raises(UsageError, match="stacks"):
        write(exported.everything(), tmp_path)
