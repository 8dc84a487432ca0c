# SPDX-License-Identifier: GPL-2.0-or-later
"""Error paths where the kernel lets no function be overridden: allocations fail by number, and its log tells which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from injected_driver import CLEAN, LEAKING, leaked, outcomes, walk
from schemas import validated

pytestmark = [pytest.mark.guest, pytest.mark.long]


@pytest.fixture(scope="module")
def out(guest_options: list[str], kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fail_nth")
    walk(guest_options, "fail_nth_scenario.sh", directory, 2400)
    return directory


@pytest.fixture(scope="module")
def report(out: Path) -> Any:
    text = (out / "nth.json").read_text()
    assert text, (out / "nth.txt").read_text()
    return validated(json.loads(text))


def test_doctor_says_that_there_is_only_the_second_best(out: Path) -> None:
    checks = validated(json.loads((out / "doctor.json").read_text()))["checks"]
    (check,) = [one for one in checks if one["name"] == "injection"]
    assert "/proc/PID/fail-nth" in check["found"]


def test_each_leaking_error_path_is_named_by_the_call_that_fails(out: Path, report: Any) -> None:
    said = outcomes(report)
    said.pop("alloc_cache", None)  # the kernel forgets something there, see test_inject.py
    assert {call for call, found in said.items() if "leaks" in found} == set(LEAKING), (out / "nth.txt").read_text()
    assert (out / "nth.status").read_text().strip() == "1"


def test_no_call_of_the_driver_is_passed_over(report: Any) -> None:
    """Each but the cache's descriptor fails, though numbers shift from run to run."""
    assert report["walk"]["planned"] > 12
    assert [gap for gap in report["gaps"] if "never failed" in gap] == []
    assert {*CLEAN, *LEAKING} <= outcomes(report).keys()


def test_what_leaks_is_what_the_driver_forgets(report: Any) -> None:
    found = leaked(report)
    found.pop("alloc_cache", None)
    assert found == LEAKING
