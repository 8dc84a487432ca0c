# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures of a driver in the guest compared: one leak is that leak and nothing else, and no leak is nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guest_tool import PROJECT, Guest
from schemas import validated

from kleaktrace.commands.diff import diff

pytestmark = pytest.mark.guest

SCENARIO = PROJECT / "tests" / "guest" / "diff_scenario.sh"
FEW = ("leak_hardirq_129",)
ALL = (
    *("leak_kzalloc_1520", "leak_hardirq_129", "leak_percpu", "leak_slab_object", "leak_vmalloc_5k", "leak_timer"),
    *("leak_error_path", "leak_refcount", "leak_conditional_size", "leak_caller_forgets_8"),
)


@dataclass(frozen=True)
class Captures:
    """Where they are, and of which leaks."""

    directory: Path
    leaks: Sequence[str]

    def compared(self, before: str, after: str) -> tuple[int, Any]:
        """Exit code and document."""
        arguments = ["--json", "-", "--fail-on", "new-leak", "--fail-on", "growth=1", "--per", "1"]
        done = CliRunner().invoke(diff, [*arguments, *(str(self.directory / name) for name in (before, after))])
        assert done.stdout, (done.exception, (self.directory / f"{after}.txt").read_text())
        return done.exit_code, validated(json.loads(done.stdout))


@pytest.fixture(scope="module", params=[FEW, pytest.param(ALL, marks=pytest.mark.long)], ids=["few", "all"])
def captures(
    request: pytest.FixtureRequest, guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory
) -> Captures:
    out = tmp_path_factory.mktemp("diff")
    leaks: Sequence[str] = request.param
    result = guest("sh", str(SCENARIO), str(out), str(lab_module), *leaks, rwdirs=[out], timeout_s=1800, cpus=1)
    assert result.status == 0, result.stderr
    return Captures(out, leaks)


@pytest.mark.parametrize(("before", "after"), [("before", "again"), ("again", "before")])
def test_the_same_twice_is_no_news(captures: Captures, before: str, after: str) -> None:
    status, told = captures.compared(before, after)
    assert (status, told["changes"], told["kept"]) == (0, [], [])


@pytest.mark.parametrize("before", ["before", "again"])
def test_one_leak_is_the_only_news(captures: Captures, before: str) -> None:
    for leak in captures.leaks:
        status, told = captures.compared(before, leak)
        assert (status, [change["new_leak"] for change in told["changes"]]) == (1, [True]), leak
        assert any(f"lab_{leak}+" in frame for frame in told["changes"][0]["stack"]), leak
        _, back = captures.compared(leak, before)
        assert [change["change"] for change in back["changes"]] == ["gone"], leak
