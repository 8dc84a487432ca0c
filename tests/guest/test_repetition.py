# SPDX-License-Identifier: GPL-2.0-or-later
"""What kmemleak can't see in the guest: leaks that something points to are convicted by repetition, or are growing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from guest_tool import PROJECT, Guest
from schemas import validated

pytestmark = pytest.mark.guest

SCENARIO = PROJECT / "tests" / "guest" / "repetition_scenario.sh"


class Seen:
    """What one boot has brought, step by step."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def json(self, step: str) -> Any:
        path = self._out / f"{step}.json"
        assert path.stat().st_size, self.text(step)
        return validated(json.loads(path.read_text()))

    def text(self, step: str) -> str:
        return (self._out / f"{step}.txt").read_text()

    def status(self, step: str) -> int:
        return int((self._out / f"{step}.status").read_text())

    def confirmed(self, step: str) -> list[Any]:
        return [one for one in self.json(step)["suspects"] if one["verdict"] == "confirmed"]


@pytest.fixture(scope="module")
def seen(guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    out = tmp_path_factory.mktemp("repetition")
    result = guest("sh", str(SCENARIO), str(out), str(lab_module), rwdirs=[out], timeout_s=1200)
    assert result.status == 0, result.stderr
    return Seen(out)


def passes_through(suspect: Any, function: str) -> bool:
    return any(frame.startswith(f"{function}+") for frame in suspect["stack"])


def test_a_kobject_that_each_load_leaves_behind_is_confirmed(seen: Seen) -> None:
    assert seen.status("loads") == 1
    leaked = [one for one in seen.confirmed("loads") if passes_through(one, "lab_unload_kobject")]
    assert leaked
    for one in leaked:
        assert one["source"] == "repetition", one
        assert one["rounds"]["grew_in"] == one["rounds"]["total"] == 6, one
    assert {s["rule"] for s in seen.confirmed("loads")} == {"repetition"}, seen.text("loads")
    first_line = next(line for line in seen.text("loads").splitlines() if line.startswith("LEAK"))
    assert first_line.startswith("LEAK kleaktrace_lab: lab_unload_kobject: 28 objects")
    assert "4 per round" in first_line


def test_loads_that_leave_nothing_behind_are_clean(seen: Seen) -> None:
    assert seen.confirmed("innocent_loads") == []
    assert (seen.status("innocent_loads"), seen.json("innocent_loads")["verdict"]) == (0, "clean"), seen.text(
        "innocent_loads"
    )


def test_a_single_load_that_leaves_something_unexplained_is_not_clean(seen: Seen) -> None:
    report = seen.json("single_load")
    against = [s for s in report["suspects"] if s["counts_against_clean"] and s["verdict"] == "undecided"]
    assert any(passes_through(one, "lab_unload_workqueue") for one in against)
    assert (seen.status("single_load"), report["verdict"]) == (4, "incomplete")
    assert "kleaktrace run --repeat 10" in seen.text("single_load")


@pytest.mark.parametrize(("step", "rounds"), [("referenced", 12), ("marks", 8)])
def test_a_referenced_leak_is_confirmed_while_its_module_stays_loaded(seen: Seen, step: str, rounds: int) -> None:
    assert seen.status(step) == 1
    (leak,) = seen.json(step)["leaks"]
    assert (leak["module"], leak["function"], leak["requester"]) == (
        "kleaktrace_lab",
        "lab_referenced",
        "lab_referenced",
    )
    assert leak["objects"] == rounds
    assert leak["rounds"] == {"total": rounds - 1, "grew_in": rounds - 1, "per_round": 1}


def test_lists_that_grew_are_growing_and_not_clean(seen: Seen) -> None:
    report = seen.json("growth")
    by_requester = {one["stack"][0].partition("+")[0]: one for one in report["growing"]}
    assert by_requester["lab_device_on_list"]["outstanding"] == 60, seen.text("growth")  # in six seconds
    assert by_requester["lab_list_grows"]["outstanding"] == 1600  # in one
    assert (seen.status("growth"), report["verdict"]) == (4, "incomplete")


def test_a_burst_after_which_time_goes_on_is_growing_and_not_clean(seen: Seen) -> None:
    report = seen.json("burst")
    assert "lab_device_on_list" in {one["stack"][0].partition("+")[0] for one in report["growing"]}
    assert (seen.status("burst"), report["verdict"]) == (4, "incomplete")


def test_what_warms_up_or_stays_cached_is_not_growing(seen: Seen) -> None:
    for one in seen.json("growth")["growing"]:
        assert passes_through(one, "lab_device_on_list") or passes_through(one, "lab_list_grows"), one
