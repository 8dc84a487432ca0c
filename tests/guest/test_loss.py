# SPDX-License-Identifier: GPL-2.0-or-later
"""Events that get lost never make a verdict wrong, and never a session clean: against the lab's truth, in the guest."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from guest_tool import PROJECT, Guest
from lab_books import Object
from schemas import validated

pytestmark = pytest.mark.guest

SCENARIO = PROJECT / "tests" / "guest" / "loss_scenario.py"
RUNS = ("unloaded", "nameless", "overflowing", "stalled")
UNLOADING = ("unloaded", "nameless")
LEAKED = {True: {"leak", "unload"}, False: {"leak"}}


@dataclass(frozen=True)
class Judged:
    """An object of the lab, and its verdict if there is one."""

    truth: Object
    leaked: bool
    verdict: str | None
    reason: str


@dataclass(frozen=True)
class Steps:
    """What the scenario left behind."""

    directory: Path

    def document(self, step: str) -> dict[str, Any]:
        text = (self.directory / f"{step}.json").read_text()
        assert text, f"{step} wrote no document; it printed:\n{self.printed(step)}"
        document: dict[str, Any] = validated(json.loads(text))
        return document

    def status(self, step: str) -> int:
        return int((self.directory / f"{step}.status").read_text())

    def printed(self, step: str) -> str:
        return (self.directory / f"{step}.txt").read_text()

    def stalled_until_ns(self, step: str) -> float:
        return float((self.directory / f"{step}.stalled").read_text().split()[1]) * 1e9

    def objects(self, step: str) -> list[Object]:
        return Object.read(self.directory / f"{step}.objects")

    def judged(self, step: str) -> list[Judged]:
        """The lab's objects; of those that had one address after another, the last."""
        suspects = {int(s["address"], 16): s for s in self.document(step)["suspects"] if s["in_window"]}
        owners = {row.address: row for row in sorted(self.objects(step), key=lambda row: row.allocated_ns)}
        nothing = {"verdict": None, "reason": ""}
        verdicts = ((row, suspects.get(address, nothing)) for address, row in owners.items())
        leaked = LEAKED[step in UNLOADING]
        return [Judged(row, row.truth in leaked, s["verdict"], s["reason"]) for row, s in verdicts]


@pytest.fixture(scope="module")
def steps(guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    out = tmp_path_factory.mktemp("loss")
    python = PROJECT / ".venv" / "bin" / "python"
    result = guest(str(python), str(SCENARIO), str(out), str(lab_module), rwdirs=[out], timeout_s=900)
    assert result.status == 0, result.stdout + result.stderr
    return Steps(out)


@pytest.mark.parametrize("step", RUNS)
def test_no_verdict_is_wrong(steps: Steps, step: str) -> None:
    judged = steps.judged(step)
    assert [one for one in judged if one.leaked and one.verdict == "dismissed"] == []
    assert [one for one in judged if not one.leaked and one.verdict == "confirmed"] == []
    assert any(one.leaked and one.verdict for one in judged), steps.printed(step)


@pytest.mark.parametrize("step", RUNS)
def test_it_is_never_clean(steps: Steps, step: str) -> None:
    document = steps.document(step)
    loss = document["loss"]
    assert loss["events"] > 0 or loss["names"] > 0
    assert document["verdict"] != "clean"
    assert steps.status(step) == {"leaks": 1, "incomplete": 4}[document["verdict"]]
    if loss["events"]:
        assert any(f"{loss['events']} events were lost" in gap for gap in document["gaps"])
        assert loss["windows"]


@pytest.mark.parametrize("step", ["unloaded", "overflowing"])
def test_what_lived_through_the_loss_is_undecided(steps: Steps, step: str) -> None:
    """In these two, that is everything. With large pages few vfrees are lost, and perhaps none since a vmalloc."""
    has_large_pages = int((steps.directory / "page_size").read_text()) > 4096
    confirmed = {one.truth.case for one in steps.judged(step) if one.verdict == "confirmed"}
    assert confirmed <= ({"leak_vmalloc_5k"} if has_large_pages and step == "overflowing" else set())
    assert steps.status(step) == (1 if confirmed else 4), steps.printed(step)
    assert steps.document(step)["verdict"] == ("leaks" if confirmed else "incomplete")
    leaks = [one for one in steps.judged(step) if one.leaked and one.verdict == "undecided"]
    assert len({one.truth.case for one in leaks}) >= 4
    assert all("lost" in one.reason or "sizes differ" in one.reason for one in leaks), leaks


def test_frees_that_were_lost_do_not_make_leaks_of_what_an_unloaded_module_left(steps: Steps) -> None:
    innocent = [one for one in steps.judged("unloaded") if not one.leaked and one.verdict]
    assert innocent, "nothing was put to the test"
    assert {one.verdict for one in innocent} == {"undecided"}
    assert all("lost" in one.reason for one in innocent)


def test_what_was_allocated_after_the_loss_is_judged_as_ever(steps: Steps) -> None:
    until_ns = steps.stalled_until_ns("stalled")
    leaks = [one for one in steps.judged("stalled") if one.leaked and one.verdict]
    before = [one for one in leaks if one.truth.allocated_ns <= until_ns]
    assert {one.verdict for one in before if one.truth.case != "leak_vmalloc_5k"} == {"undecided"}
    # Of vmalloc it may be that no free was lost.
    lost_vfrees = any("vfrees" in lost["cause"] for lost in steps.document("stalled")["loss"]["causes"])
    of_vmalloc = {one.verdict for one in before if one.truth.case == "leak_vmalloc_5k"}
    assert of_vmalloc == {"undecided" if lost_vfrees else "confirmed"}
    later = [one for one in leaks if one.truth.allocated_ns > until_ns]
    assert len({one.truth.case for one in later if one.verdict == "confirmed"}) >= 3, later
    assert steps.status("stalled") == 1
    assert steps.document("stalled")["loss"]["windows"]


def test_without_the_names_of_caches_leaks_are_found_all_the_same(steps: Steps, traces_functions: bool) -> None:
    document = steps.document("nameless")
    assert document["loss"]["events"] == 0
    assert document["loss"]["names"] > 0
    of_slab = {"leak_kzalloc_1520", "leak_hardirq_129", "unload_forgets"}
    leaked = [one for one in steps.judged("nameless") if one.leaked]
    confirmed = {one.truth.case for one in leaked if one.verdict == "confirmed"}
    if traces_functions:
        assert {*of_slab, "leak_vmalloc_5k"} <= confirmed
        return
    assert confirmed == {"leak_vmalloc_5k"}, "kfree_rcu may have freed the others unseen, and kmemleak was not asked"
    assert of_slab <= {one.truth.case for one in leaked if one.verdict == "undecided"}


def test_a_filter_s_full_table_is_loss_and_makes_no_phantoms(steps: Steps) -> None:
    document = steps.document("table")
    totals = document["totals"]
    assert steps.status("table") == 0, steps.printed("table")
    assert document["verdict"] == "incomplete"
    assert document["loss"]["events"] > 100
    assert document["loss"]["windows"]
    assert 0 < totals["outstanding"] <= 8
    assert totals["unknown_frees"] == 0, "nor is a free sent whose allocation was lost"
    outstanding = Counter(
        line.partition("+")[0] for group in document["outstanding"] for line in group["stack"][:2] * group["count"]
    )
    alive = Counter(row.function for row in steps.objects("table") if not row.freed)
    assert not any(count > alive[name] for name, count in outstanding.items() if name.startswith("lab_"))
