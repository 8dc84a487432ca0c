# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures of a driver in the guest compared: one leak is that leak and nothing else, and no leak is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guest_tool import PROJECT, Guest
from schemas import validated

from kleaktrace.commands.diff import diff

pytestmark = pytest.mark.guest

SCENARIO = PROJECT / "tests" / "guest" / "diff_scenario.sh"
LEAKS = ("leak_kzalloc_1520", "leak_hardirq_129", "leak_percpu")


@pytest.fixture(scope="module")
def captures(guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with all captures."""
    out = tmp_path_factory.mktemp("diff")
    result = guest("sh", str(SCENARIO), str(out), str(lab_module), *LEAKS, rwdirs=[out], timeout_s=900, cpus=1)
    assert result.status == 0, result.stderr
    return out


def compared(captures: Path, before: str, after: str) -> tuple[int, Any]:
    """Exit code and document."""
    arguments = ["--json", "-", "--fail-on", "new-leak", "--fail-on", "growth=1", "--per", "1"]
    done = CliRunner().invoke(diff, [*arguments, str(captures / before), str(captures / after)])
    assert done.stdout, (done.exception, (captures / f"{after}.txt").read_text())
    return done.exit_code, validated(json.loads(done.stdout))


@pytest.mark.parametrize(("before", "after"), [("before", "again"), ("again", "before")])
def test_the_same_twice_is_no_news(captures: Path, before: str, after: str) -> None:
    status, told = compared(captures, before, after)
    assert (status, told["changes"], told["kept"]) == (0, [], [])


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("before", ["before", "again"])
def test_one_leak_is_the_only_news(captures: Path, before: str, leak: str) -> None:
    status, told = compared(captures, before, leak)
    assert status == 1
    assert {change["new_leak"] for change in told["changes"]} == {True}
    assert all(any("kleaktrace_lab" in frame for frame in change["stack"]) for change in told["changes"])
    assert len(told["changes"]) == 1
    _, back = compared(captures, leak, before)
    assert [change["change"] for change in back["changes"]] == ["gone"]
