# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts on drivers whose truth is known, in a booted kernel."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from guest_tool import PROJECT, Guest
from schemas import validated

pytestmark = pytest.mark.guest

SCENARIO = PROJECT / "tests" / "guest" / "ground_truth_scenario.sh"
LEAKS = {
    "leak_kzalloc_1520": (1520, 2048, "task"),
    "leak_vmalloc_5k": (5120, 8192, "task"),
    "leak_caller_forgets_8": (8, 8, "task"),
    "leak_hardirq_129": (129, 192, "hardirq"),
    "init_leak": (700, 1024, "task"),
}


@dataclass(frozen=True)
class LabObject:
    """One line of the lab's own account."""

    case: str
    truth: str
    function: str
    address: str
    size: int
    state: str
    context: str
    pid: int


class Steps:
    """What the scenario left behind."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def document(self, step: str) -> dict[str, Any]:
        text = (self._directory / f"{step}.json").read_text()
        assert text, f"{step} wrote no document; it printed:\n{self.printed(step)}"
        document: dict[str, Any] = validated(json.loads(text))
        return document

    def status(self, step: str) -> int:
        return int((self._directory / f"{step}.status").read_text())

    def printed(self, step: str) -> str:
        return (self._directory / f"{step}.txt").read_text()

    def number(self, name: str) -> int:
        return int((self._directory / name).read_text())

    def objects(self, step: str) -> list[LabObject]:
        lines = (self._directory / f"{step}.objects").read_text().splitlines()
        fields = [line.split("\t") for line in lines]
        return [LabObject(f[0], f[1], f[2], f[3], int(f[4]), f[5], f[6], int(f[7])) for f in fields]


@pytest.fixture(scope="module")
def steps(
    guest: Guest, kmemleak_test_module: Path, lab_module: Path, tmp_path_factory: pytest.TempPathFactory
) -> Steps:
    out = tmp_path_factory.mktemp("verdicts")
    result = guest(
        "sh", str(SCENARIO), str(out), str(kmemleak_test_module), str(lab_module), rwdirs=[out], timeout_s=1200
    )
    assert result.status != 255, result.stderr
    return Steps(out)


def by_address(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {suspect["address"]: suspect for suspect in document["suspects"]}


def confirmed(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [suspect for suspect in document["suspects"] if suspect["verdict"] == "confirmed"]


def test_the_sample_modules_leaks_are_confirmed_and_named_though_it_is_gone(steps: Steps) -> None:
    document = steps.document("sample")
    assert steps.status("sample") == 1
    assert document["verdict"] == "leaks"
    assert document["loss"]["causes"] == []
    assert steps.number("sample.kernel_names") == 0  # the kernel itself has bare addresses only
    listed = [s for s in confirmed(document) if s["source"] == "kmemleak"]
    # samples/kmemleak/kmemleak-test.c: eight kmallocs, five vmallocs, ten list elements, a percpu loop and more;
    # the first of a kind may hide behind a stale pointer.
    assert len(listed) >= 12
    assert all("[kmemleak_test]" in s["stack"][0] for s in listed)
    assert {s["comm"] for s in listed} == {"insmod"}
    assert {"vmalloc", "kmalloc-32", "kmalloc-1k"} <= {s["cache"] for s in listed}


def test_each_leak_of_the_lab_is_confirmed_with_sizes_context_and_pid(steps: Steps) -> None:
    document = steps.document("lab")
    assert steps.status("lab") == 1
    assert document["loss"]["causes"] == []
    suspects = by_address(document)
    found = Counter()
    for truth in steps.objects("lab"):
        if truth.truth != "leak" or truth.address not in suspects:
            continue
        suspect = suspects[truth.address]
        requested, bucket, context = LEAKS[truth.case]
        assert suspect["verdict"] == "confirmed", suspect
        assert (suspect["bytes_req"], suspect["bytes_alloc"]) == (requested, bucket)
        assert suspect["size"] == bucket
        assert suspect["context"] == context == truth.context
        if context == "task":  # in an interrupt kmemleak writes hardirq and pid 0
            assert suspect["pid"] == truth.pid
            assert suspect["comm"] == ("insmod" if truth.case == "init_leak" else "sh")
        assert any(line.startswith(truth.function + "+") for line in suspect["stack"]), suspect["stack"]
        assert suspect["siblings"]["freed"] == 0
        found[truth.case] += 1
    assert set(found) == set(LEAKS)
    assert sum(found.values()) >= 15, found  # of 20; a stale pointer may hide one or another from kmemleak


def test_no_innocent_is_confirmed(steps: Steps) -> None:
    suspects = by_address(steps.document("lab"))
    for truth in steps.objects("lab"):
        if truth.truth in ("innocent", "referenced") or (truth.truth == "unload" and truth.state == "alive"):
            assert suspects.get(truth.address, {}).get("verdict") != "confirmed", (truth, suspects[truth.address])


def test_after_rmmod_what_the_driver_forgot_is_confirmed_too(steps: Steps) -> None:
    document = steps.document("unload")
    assert steps.status("unload") == 1
    suspects = by_address(document)
    truths = steps.objects("unload")
    forgotten = [t for t in truths if t.case == "unload_forgets"]
    assert len(forgotten) == 4
    for truth in forgotten:
        suspect = suspects[truth.address]
        assert suspect["verdict"] == "confirmed", suspect
        assert any("lab_unload_forgets+" in line for line in suspect["stack"])
    # freed by the module on its way out
    kept = [t for t in truths if t.truth == "referenced"]
    assert kept
    assert not any(suspects.get(t.address, {}).get("verdict") == "confirmed" for t in kept)


def test_what_leaked_before_the_run_is_told_apart(steps: Steps) -> None:
    before = {t.address for t in steps.objects("lab") if t.truth == "leak"}
    suspects = by_address(steps.document("clean"))
    seen = before & set(suspects)
    assert len(seen) >= 15
    for address in seen:
        assert suspects[address]["verdict"] == "undecided"
        assert not suspects[address]["in_window"]
        assert "before tracing began" in suspects[address]["reason"]


def test_a_run_that_leaks_nothing_is_clean(steps: Steps) -> None:
    assert steps.status("clean") == 0, steps.printed("clean")
    document = steps.document("clean")
    assert document["verdict"] == "clean"
    assert confirmed(document) == []


def test_without_kmemleak_unloading_alone_confirms(steps: Steps) -> None:
    document = steps.document("alone")
    assert steps.status("alone") == 1
    assert {s["source"] for s in document["suspects"]} == {"unload"}
    functions = {s["stack"][0].partition("+")[0] for s in confirmed(document)}
    assert {"lab_leak_kzalloc_1520", "lab_leak_hardirq_129", "lab_unload_forgets", "lab_leak_vmalloc_5k"} <= functions
    assert not functions & {"lab_referenced", "lab_freed_at_once", "lab_reuse"}


def test_confirm_dismisses_what_is_freed_while_it_watches(steps: Steps) -> None:
    assert steps.status("confirm") == 4
    document = steps.document("confirm")
    suspects = by_address(document)
    late = [t for t in steps.objects("confirm") if t.case == "freed_late"]
    judged = [(t, suspects[t.address]) for t in late if t.address in suspects]
    assert judged, "none of the late objects was listed when the watch began"
    dismissed = [(t, s) for t, s in judged if s["verdict"] == "dismissed"]
    assert dismissed
    for truth, suspect in dismissed:
        assert truth.state == "freed", (truth, suspect)
    freed = [s["freed"]["site"] for _, s in dismissed if s["freed"]]
    assert freed
    assert all("[kleaktrace_lab]" in site for site in freed)
    assert confirmed(document) == []


def test_the_module_filter_lets_only_the_module_through(steps: Steps) -> None:
    document = steps.document("module")
    assert steps.status("module") == 0, steps.printed("module")
    assert document["totals"]["allocations"] >= 8
    for group in document["outstanding"]:
        assert any("[kleaktrace_lab]" in line for line in group["stack"]), group
    functions = {line.partition("+")[0] for group in document["outstanding"] for line in group["stack"]}
    assert {"lab_leak_kzalloc_1520", "lab_leak_hardirq_129"} <= functions
    assert document["totals"]["unknown_frees"] == 0


def test_doctor_finds_everything(steps: Steps) -> None:
    assert steps.status("doctor") == 0
    checks = {c["name"]: c for c in validated(json.loads(steps.printed("doctor")))["checks"]}
    assert checks["kmemleak"]["health"] == "ok"
    assert checks["new memory"]["health"] == "ok"
    assert checks["probe: vmalloc"]["found"].startswith("fexit:")
    assert checks["probe: slab-bulk-free"]["found"].startswith("fentry:")
    assert checks["probe: modules"]["health"] == "ok"
    assert checks["probe: context"]["health"] == "ok"


def test_kmemleak_going_off_meanwhile_is_not_clean(steps: Steps) -> None:
    assert steps.status("off") == 4
    document = steps.document("off")
    assert document["verdict"] == "incomplete"
    assert any("kmemleak was disabled at run time" in gap for gap in document["gaps"]), document["gaps"]
