# SPDX-License-Identifier: GPL-2.0-or-later
"""Which runs are worth repeating, and what their repetitions say, on recordings that the test makes up."""

from __future__ import annotations

from dataclasses import replace

from builders import SECOND, START_NS, Scene, module_image
from recordings import scene_recording
from reports import judged

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.evidence.injected_runs import FailedAllocation, InjectedRun, Walk
from kleaktrace.core.injection.error_paths import PathOutcome, attribute
from kleaktrace.core.injection.unexplained import ROUNDS, count_unexplained, series_of, unexplained_runs, unjudged_runs

HEAP = 0xFFFF888100000000
OWN, BY_CORE, ELSEWHERE, BOOKKEEPING = 1, 2, 3, 4
"""Stacks of a Scene: the driver's own, core code's for the driver, core code's, and vmalloc's below the driver."""


def run(number: int, call: str | None, again: bool = False) -> InjectedRun:
    """A run of a second that begins `number` seconds after the start."""
    start = START_NS + number * SECOND
    failed = None if call is None else FailedAllocation(start, (f"{call}+0x1/0x9 [drv]",), 64, key=len(call))
    return InjectedRun(number, start, start + SECOND // 2, failed, int(failed is not None), again=again)


def walk(*calls: str | None, again: tuple[str | None, ...] = ()) -> Walk:
    runs = [run(number, call) for number, call in enumerate(calls)]
    runs += [run(len(calls) + number, call, again=True) for number, call in enumerate(again)]
    return Walk("made up", runs, len(calls), START_NS + len(runs) * SECOND)


def numbers(scene: Scene, of: Walk, module: str | None = "drv") -> list[int]:
    return [one.number for one in unexplained_runs(scene_recording(scene), of, module)]


def test_a_run_is_repeated_that_left_what_core_code_allocated_for_the_module() -> None:
    scene = Scene()
    scene.allocate(1.1, HEAP, stack=BY_CORE)
    scene.allocate(2.1, HEAP + 0x1000, stack=ELSEWHERE)
    scene.allocate(2.2, HEAP + 0x2000, stack=BOOKKEEPING)
    assert numbers(scene, walk(None, "ring", "name", None)) == [1]
    assert numbers(scene, walk(None, "ring", "name", None), None) == [1]
    assert numbers(scene, walk(None, "ring", "name", None), "other") == []
    assert count_unexplained(scene_recording(scene), "drv") == 1


def test_what_runs_without_a_failure_leave_is_repeated_once_and_without_a_failure() -> None:
    scene = Scene()
    for number in range(4):
        scene.allocate(number + 0.1, HEAP + 0x1000 * number, stack=BY_CORE)
    assert numbers(scene, walk(None, "ring", "name", None)) == [0]


def test_what_the_unload_convicts_needs_no_repetition() -> None:
    scene = Scene()
    scene.allocate(1.1, HEAP, stack=OWN)
    assert numbers(scene, walk(None, "ring", None)) == [1]
    scene.names.symbols.module_freed("drv", module_image().key, START_NS + 2 * SECOND)
    assert numbers(scene, walk(None, "ring", None)) == []


def test_what_is_confirmed_needs_no_repetition() -> None:
    scene = Scene(40)
    made = walk(None, "ring", "name", None)
    for number in (1, 2):
        scene.allocate(number + 0.1, HEAP + 0x1000 * number, stack=BY_CORE)
    recording = scene_recording(scene)
    leaked = judged(verdict=Verdict.CONFIRMED, age_s=40 - 1.1)
    assert [one.number for one in unjudged_runs(recording, made, [], "drv")] == [1, 2]
    assert [one.number for one in unjudged_runs(recording, made, [leaked], "drv")] == [2]
    undecided = judged(verdict=Verdict.UNDECIDED, age_s=40 - 1.1)
    assert [one.number for one in unjudged_runs(recording, made, [undecided], "drv")] == [1, 2]


def test_repetitions_of_one_failure_are_rounds() -> None:
    made = walk(None, "ring", None, again=("ring", "ring", "ring", None, None))
    assert [series.edges for series in series_of(made)] == [
        tuple(START_NS + number * SECOND for number in (3, 4, 5, 6)),
        tuple(START_NS + number * SECOND for number in (6, 7, 8)),
    ]
    assert series_of(walk(None, "ring", "ring", None)) == []


def test_what_failed_by_number_is_no_rounds_of_one_thing() -> None:
    made = walk(None, "ring", None, again=("ring", "ring", "ring"))
    runs = [replace(one, failed=one.failed and replace(one.failed, key=0)) for one in made.runs]
    assert series_of(replace(made, runs=runs)) == []


def test_what_grows_with_each_repetition_convicts_the_failure_and_not_the_others() -> None:
    scene = Scene(40)
    made = walk(None, "ring", "name", None, again=("ring",) * ROUNDS)
    for one in made.runs:
        if one.failed and "ring" in one.failed.stack[0]:
            scene.allocate(one.number + 0.1, HEAP + 0x1000 * one.number, stack=BY_CORE)
    recording = scene_recording(scene, series=series_of(made))
    found = attribute(made, recording.judge(), recording.clock.end.time_ns)
    assert {path.failed.stack[0].partition("+")[0]: path.outcome for path in found.paths} == {
        "ring": PathOutcome.LEAKS,
        "name": PathOutcome.CLEAN,
    }


def test_what_only_the_first_repetition_leaves_convicts_nobody() -> None:
    scene = Scene(40)
    made = walk(None, "ring", None, again=("ring",) * ROUNDS)
    for number in (1, 3):
        scene.allocate(number + 0.1, HEAP + 0x1000 * number, stack=BY_CORE)
    suspects = scene_recording(scene, series=series_of(made)).judge()
    assert [one for one in suspects if one.verdict is Verdict.CONFIRMED] == []
