# SPDX-License-Identifier: GPL-2.0-or-later
"""Error paths where the kernel lets no function be overridden: allocations fail by number, and its log tells which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from guest_tool import PROJECT, WITHOUT_SOURCE_LINES, build_module, built_tree, run_tool
from schemas import validated
from test_inject import LEAKING

pytestmark = [pytest.mark.guest, pytest.mark.long]

SCENARIO = PROJECT / "tests" / "guest" / "fail_nth_scenario.sh"


@pytest.fixture(scope="module")
def out(guest_options: list[str], kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fail_nth")
    options = [*guest_options, "--config", str(PROJECT / "tools" / "inject.config")]
    module = build_module(PROJECT / "tests" / "guest" / "inject_module", built_tree(options)) / "inject_paths.ko"
    options += ["--keep-files", "--cpus=1", "--timeout=2400", f"--rwdir={directory}"]
    command = ("sh", str(SCENARIO), str(directory), str(module))
    done = run_tool(*options, "--", *WITHOUT_SOURCE_LINES, *command, timeout_s=2500)
    assert done.status == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def report(out: Path) -> Any:
    text = (out / "nth.json").read_text()
    assert text, (out / "nth.txt").read_text()
    return validated(json.loads(text))


def caller(stack: list[str]) -> str:
    """The driver's innermost function, empty: none of it."""
    return next((frame.partition("+")[0] for frame in stack if frame.endswith("[inject_paths]")), "")


def test_doctor_says_that_there_is_only_the_second_best(out: Path) -> None:
    checks = validated(json.loads((out / "doctor.json").read_text()))["checks"]
    (check,) = [one for one in checks if one["name"] == "injection"]
    assert "/proc/PID/fail-nth" in check["found"]


def test_each_leaking_error_path_is_named_by_the_call_that_fails(out: Path, report: Any) -> None:
    said: dict[str, set[str]] = {}
    for path in report["error_paths"]:
        said.setdefault(caller(path["failed"]["stack"]), set()).add(path["outcome"])
    said.pop("alloc_cache", None)  # the kernel forgets something there, see test_inject.py
    assert {call for call, outcomes in said.items() if "leaks" in outcomes} == set(LEAKING), (
        out / "nth.txt"
    ).read_text()
    assert (out / "nth.status").read_text().strip() == "1"


def test_what_leaks_is_what_the_driver_forgets(report: Any) -> None:
    leaked: dict[str, set[str]] = {}
    for run in report["injections"]:
        for suspect in run["suspects"]:
            if suspect["verdict"] == "confirmed":
                leaked.setdefault(caller(run["failed"]["stack"]), set()).add(caller(suspect["stack"]))
    leaked.pop("alloc_cache", None)
    assert leaked == LEAKING
