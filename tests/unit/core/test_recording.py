# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording that the test makes up is judged and reported without root, kernel or bcc."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from builders import FULL_COVERAGE, SECOND, START_JIFFIES, START_NS, Scene, inside, jiffies_at, suspect

from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.coverage import CoverageKind
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Kind
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import CommandResult, Kernel, Outcome
from kleaktrace.core.symbols.kernel_names import CacheName
from kleaktrace.views.documents.report import document

A, B, C = 0xFFFF888100010000, 0xFFFF888100020000, 0xFFFF888100030000


def recording(scene: Scene, **known: object) -> Recording:
    end = Moment(START_NS + round(scene.seconds * 1e9), jiffies_at(scene.seconds))
    return Recording(
        kernel=Kernel("6.12.0", "x86_64"),
        started=datetime(2026, 1, 1, tzinfo=UTC),
        clock=JiffiesClock(Moment(START_NS, START_JIFFIES), end),
        ledger=scene.ledger,
        names=scene.names,
        history=LevelHistory(),
        loss=Loss(sum(w.events for w in scene.losses), windows=tuple(scene.losses)),
        coverage=FULL_COVERAGE,
        **known,  # type: ignore[arg-type]
    )


@pytest.fixture
def leaking() -> Recording:
    """One object is listed twice and was not freed, and core code left another behind for a module that is gone."""
    scene = Scene()
    scene.allocate(1, A)
    scene.allocate(2, B, stack=2)
    scene.allocate(3, C)
    scene.free(4, C)
    scene.unload(5)
    listed = [suspect(1, A)]
    return recording(scene, readings=[[], listed, listed], command=CommandResult(("true",), 0))


def test_it_is_judged_and_reported(leaking: Recording) -> None:
    suspects = leaking.judge()
    assert {(s.address, s.source): s.verdict for s in suspects} == {
        (A, "kmemleak"): Verdict.CONFIRMED,
        (B, "unload"): Verdict.UNDECIDED,
    }
    report = leaking.report(suspects)
    assert report.outcome is Outcome.LEAKS
    assert (report.totals.allocations, report.totals.frees, report.totals.outstanding) == (3, 1, 2)
    told = document(report)
    assert told["verdict"] == "leaks"
    json.dumps(told)


def test_judging_it_twice_gives_the_same(leaking: Recording) -> None:
    assert leaking.judge() == leaking.judge()
    assert document(leaking.report(leaking.judge())) == document(leaking.report(leaking.judge()))


def test_what_kmemleak_must_be_asked_is_known_before_and_its_answers_are_evidence(leaking: Recording) -> None:
    questions = leaking.open_questions()
    assert [q.address for q in questions] == [B]
    freed = replace(leaking, answers={questions[0]: False})
    assert freed.open_questions() == []
    assert {s.address: s.verdict for s in freed.judge()} == {A: Verdict.CONFIRMED, B: Verdict.DISMISSED}
    assert {s.address: s.verdict for s in leaking.judge()}[B] is Verdict.UNDECIDED, "and the other knows nothing of it"


@pytest.mark.parametrize("covered", [True, False])
def test_what_vmalloc_describes_its_areas_with_is_no_growth_of_its_own(covered: bool) -> None:
    scene = Scene()
    for number in range(60):
        scene.allocate(0.05 * number, A + 256 * number, stack=4)
    known = FULL_COVERAGE if covered else [one for one in FULL_COVERAGE if one.kind is not CoverageKind.VMALLOC]
    during = recording(scene, growth_windows=[(START_NS, START_NS + 3 * SECOND)])
    assert len(replace(during, coverage=known).growing()) == (0 if covered else 1)


@pytest.mark.parametrize("kind", [Kind.VMALLOC, Kind.PERCPU])
def test_what_vmalloc_and_the_per_cpu_allocator_give_out_grows_and_not_their_books(kind: Kind) -> None:
    """Both go through the inside of their allocators, and have the same stack by name: the driver's."""
    scene = Scene()
    scene.names.stacks.add(7, [inside("__get_vm_area_node", 0x44), inside("vmalloc_noprof"), inside("drv_probe")])
    for number in range(60):
        scene.allocate(0.05 * number, A + 256 * number, stack=4)
        scene.allocate(0.05 * number, B + (number << 16), stack=7, kind=kind)
    (found,) = recording(scene, growth_windows=[(START_NS, START_NS + 3 * SECOND)]).growing()
    assert found.growing.outstanding == 60
    assert found.cache == ("vmalloc" if kind is Kind.VMALLOC else "percpu")


def test_what_leaks_is_not_kept_on_purpose_by_the_same_call_stack() -> None:
    scene = Scene()
    scene.names.caches[7] = CacheName(7, "skbuff_head_cache", 232, 256)
    for number in range(60):
        scene.allocate(0.05 * number, A + 256 * number, stack=2, kind=Kind.CACHE, cache=7)
    during = recording(scene, growth_windows=[(START_NS, START_NS + 3 * SECOND)], processors=2)
    (kept,) = during.growing()
    assert kept.kept.startswith("these go round")
    listed = [suspect(0.0, A)]
    with_leak = replace(during, readings=[listed, listed])
    suspects = with_leak.judge()
    assert Verdict.CONFIRMED in {one.verdict for one in suspects}
    (growing,) = with_leak.growing(suspects)
    assert growing.kept == ""


def test_nothing_of_the_edge_is_needed() -> None:
    code = (
        "import sys, kleaktrace.core.recording, kleaktrace.views.documents.report\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('bcc', 'rich') or m.startswith('kleaktrace.edge')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
