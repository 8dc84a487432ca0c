# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import io
import sys
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exported import everything, hostile, with_losses
from made_up_captures import captures_are
from rich.console import Console

from kleaktrace.commands.export import export
from kleaktrace.commands.query import query
from kleaktrace.errors import EnvironmentRefusal, UsageError
from kleaktrace.views.terminal import answer as view

CAPTURES = {"all": everything, "it's": everything, "hostile": hostile, "lossy": with_losses}


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> None:
    captures_are(monkeypatch, lambda name: CAPTURES[name]())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(query, arguments)


def test_one_table_for_all_captures() -> None:
    assert run("all", "dir/lossy", "SELECT capture, host, verdict FROM machine").output == (
        "capture\thost\tverdict\nall\tlab\tleaks\ndir/lossy\t\tincomplete\n"
    )


def test_a_quote_in_a_name() -> None:
    assert run("it's", "SELECT capture FROM machine").output == "capture\nit's\n"


def test_lists_and_what_is_not_known() -> None:
    assert run("all", "SELECT frames, free_site FROM stacks WHERE key LIKE 'd80e%'").output == (
        "frames\tfree_site\ncore_alloc+0x22/0x1000; kthread+0x22/0x1000\t\n"
    )


def test_hostile_names_reach_no_terminal() -> None:
    lines = run("hostile", "SELECT function, module FROM stacks").output.splitlines()
    assert len(lines) == 2
    assert all(cell.isprintable() for line in lines for cell in line.split("\t"))


def test_what_duckdb_cannot_run_is_refused_with_the_tables_there_are() -> None:
    refused = run("all", "SELECT *\nFROM nowhere").exception
    assert isinstance(refused, UsageError)
    assert "nowhere does not exist" in refused.what
    assert refused.what.endswith("(line 2)")
    assert "\n" not in refused.what
    assert "stacks, counters, outstanding, lifetimes, suspects, loss, machine" in refused.fix


def test_without_duckdb_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    for result in (
        run("all", "SELECT 1"),
        CliRunner().invoke(export, ["--format", "parquet", "-o", str(tmp_path / "new"), "all"]),
    ):
        assert isinstance(result.exception, EnvironmentRefusal)
        assert "kleaktrace[query]" in result.exception.fix
    assert not (tmp_path / "new").exists()


def test_parquet_goes_below_a_directory(tmp_path: Path) -> None:
    result = CliRunner().invoke(export, ["--format", "parquet", "-o", str(tmp_path), "all"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "machine" / "date=2026-01-01" / "host=lab" / "all-000000.parquet").exists()
    refused = CliRunner().invoke(export, ["--format", "parquet", "all"]).exception
    assert isinstance(refused, UsageError)
    assert "-o DIRECTORY" in refused.fix


def test_the_table_on_a_terminal() -> None:
    screen = Console(file=io.StringIO(), width=60)
    view.show(screen, ["name", "n", "at"], [("a\x1b[b]", 7, datetime(2026, 1, 1)), (None, None, ["x", "y"])])
    assert isinstance(screen.file, io.StringIO)
    lines = [line.split() for line in screen.file.getvalue().splitlines() if line.strip()]
    assert lines[0] == ["name", "n", "at"]
    assert lines[2:] == [["a\\x1b[b]", "7", "2026-01-01", "00:00:00"], ["x"], ["y"]]
