# SPDX-License-Identifier: GPL-2.0-or-later
"""Error paths of a driver in the guest: what each allocation that fails leaks, and what hangs or kills the kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from injected_driver import CLEAN, LEAKING, caller, leaked, outcomes, walk
from schemas import validated

pytestmark = pytest.mark.guest


class Seen:
    """What one boot has brought, step by step."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def json(self, step: str) -> Any:
        return validated(json.loads((self.out / f"{step}.json").read_text()))

    def text(self, step: str) -> str:
        return (self.out / f"{step}.txt").read_text()

    def status(self, step: str) -> int:
        return int((self.out / f"{step}.status").read_text())


@pytest.fixture(scope="module")
def seen(guest_options: list[str], kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    out = tmp_path_factory.mktemp("inject")
    walk(guest_options, "inject_scenario.sh", out, 1500)
    return Seen(out)


def test_doctor_says_which_means_there_is(seen: Seen) -> None:
    (check,) = [one for one in seen.json("doctor")["checks"] if one["name"] == "injection"]
    assert (check["health"], check["found"]) == (
        "ok",
        "BPF override of should_failslab and should_fail_alloc_page",
    )


def test_each_leaking_error_path_is_named_by_the_call_that_fails(seen: Seen) -> None:
    assert seen.status("walk") == 1, seen.text("walk")
    found = outcomes(seen.json("walk"))
    found.pop("alloc_cache")  # see below
    assert {call for call, said in found.items() if "leaks" in said} == set(LEAKING), seen.text("walk")


def test_what_the_command_prints_is_in_the_log_alone(seen: Seen) -> None:
    said = "could not insert module"
    assert said in (seen.out / "walk.log").read_text()
    assert said not in seen.text("walk")


def test_all_other_error_paths_are_clean(seen: Seen) -> None:
    found = outcomes(seen.json("walk"))
    others = {call: said for call, said in found.items() if call not in {*LEAKING, "alloc_cache"}}
    assert set(others) >= CLEAN  # the kernel may ask for something at the module's exit, too
    assert set().union(*others.values()) == {"clean"}, seen.text("walk")


def test_what_leaks_is_what_the_driver_forgets(seen: Seen) -> None:
    found = leaked(seen.json("walk"))
    found.pop("alloc_cache", None)
    assert found == LEAKING


def test_of_a_new_cache_leaks_only_what_the_kernel_itself_forgets(seen: Seen) -> None:
    """sysfs_slab_add (mm/slub.c) does not put the kobject whose adding has failed: docs/findings.md."""
    for run in seen.json("walk")["injections"]:
        if run["failed"] and caller(run["failed"]["stack"]) == "alloc_cache":
            for suspect in run["suspects"]:
                by_core = any(frame.startswith("sysfs_slab_add+") for frame in suspect["stack"])
                assert suspect["verdict"] != "confirmed" or by_core, suspect


def test_runs_without_a_failure_come_first_and_last_and_are_clean(seen: Seen) -> None:
    runs = [run for run in seen.json("walk")["injections"] if not run["again"]]
    assert [runs[0]["failed"], runs[-1]["failed"]] == [None, None]
    assert [runs[0]["status"], runs[-1]["status"]] == [0, 0]
    assert all(run["failed"] for run in runs[1:-1])
    assert seen.json("walk")["walk"]["stopped"] is None


def test_the_report_begins_with_the_leaks(seen: Seen) -> None:
    lines = [line for line in seen.text("walk").splitlines() if line.startswith("LEAK ")]
    named = {line.partition(" in ")[2].partition("+")[0] for line in lines}
    assert set(LEAKING) <= named


def test_only_what_goes_through_a_function_fails(seen: Seen) -> None:
    found = outcomes(seen.json("inside"))
    assert set(found) == {"alloc_table"}, seen.text("inside")
    assert "leaks" in found["alloc_table"]


def test_a_command_that_fails_by_itself_is_refused(seen: Seen) -> None:
    assert seen.status("fails") == 2
    assert "the command fails by itself" in seen.text("fails")


def test_a_run_that_hangs_is_ended_and_told(seen: Seen) -> None:
    assert outcomes(seen.json("wait")) == {"alloc_map": {"hang"}}, seen.text("wait")
    assert "HANG when" in seen.text("wait")


def test_a_run_that_kills_the_kernel_is_told_with_what_it_said(seen: Seen) -> None:
    (path,) = seen.json("oops")["error_paths"]
    assert path["outcome"] == "crash", seen.text("oops")
    assert path["said"][0].startswith("BUG: kernel NULL pointer dereference")
    assert seen.status("oops") in (1, 4)
