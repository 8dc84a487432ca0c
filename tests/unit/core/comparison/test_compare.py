# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from builders import FULL_COVERAGE, SECOND, START_NS, Scene, inside, suspect
from recordings import CASES, HEAP, many_stacks, one_leak, scene_recording
from streams import KASLR, Processes, bursts, churn, function_names, leak, streamed

from kleaktrace.core.comparison.common_stacks import CompareBy
from kleaktrace.core.comparison.compare import compare
from kleaktrace.core.comparison.comparison import Because, ChangeKind, Comparison, Operations
from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.loss import Loss, LossWindow
from kleaktrace.core.recording import Recording
from kleaktrace.core.tables.stack_rows import StackVerdict

USUAL: Processes = {
    **{f"quick_{number}": churn(5 * (number + 1), 0.05) for number in range(4)},
    **{f"slow_{number}": churn(2 * (number + 1), 20) for number in range(8)},
    **{f"bursts_{number}": bursts(0.05 * (number + 1), 30) for number in range(8)},
    **{f"grows_{number}": leak(0.5 * (number + 1)) for number in range(4)},
}
WITH_LEAK: Processes = {**USUAL, "leaks": leak(2)}


def who(comparison: Comparison) -> list[tuple[str, ChangeKind]]:
    return [(change.lines[0].partition("+")[0], change.kind) for change in comparison.changes]


@pytest.mark.parametrize("case", CASES)
def test_nothing_has_changed_from_a_recording_to_itself(case: str) -> None:
    recording, _ = CASES[case]()
    found = compare(recording, recording)
    assert (found.changes, found.kept, found.hidden) == ([], [], [])


def test_nothing_has_changed_among_many_stacks() -> None:
    recording, _ = many_stacks(300)
    found = compare(recording, recording)
    assert not found.changes
    assert found.compared == found.within > 200


@pytest.mark.thorough
def test_what_the_same_streams_leave_behind_is_no_news() -> None:
    recordings = [streamed(USUAL, seed) for seed in range(101)]
    with_news = [bool(compare(*pair).changes) for pair in pairwise(recordings)]
    assert sum(with_news) <= 5


@pytest.mark.thorough
def test_nor_is_it_if_one_is_looked_at_for_longer() -> None:
    pairs = [(streamed(USUAL, seed, 30), streamed(USUAL, 1000 + seed, 300)) for seed in range(10)]
    assert sum(bool(compare(*pair).changes) for pair in pairs) == 0
    assert sum(bool(compare(*reversed(pair)).changes) for pair in pairs) == 0


@pytest.mark.thorough
def test_a_leak_that_is_added_is_the_only_news() -> None:
    for seed in range(10):
        found = compare(streamed(USUAL, seed), streamed(WITH_LEAK, 1000 + seed))
        assert who(found) == [("leaks", ChangeKind.NEW)]
        (change,) = found.changes
        assert change.because == (Because.COUNTS,)
        assert (change.before.objects, change.before.verdict) == (0, None)
        assert change.bytes.low < 2 * 60 * 128 < change.bytes.high
        assert change.bytes_per_unit.low < 2 * 128 < change.bytes_per_unit.high
        back = compare(streamed(WITH_LEAK, 1000 + seed), streamed(USUAL, seed))
        assert who(back) == [("leaks", ChangeKind.GONE)]


def test_what_leaks_faster_has_grown_and_what_leaks_slower_has_shrunk() -> None:
    slow, fast = streamed({**USUAL, "leaks": leak(1)}, 1), streamed({**USUAL, "leaks": leak(20)}, 2)
    assert who(compare(slow, fast)) == [("leaks", ChangeKind.GROWN)]
    assert who(compare(fast, slow)) == [("leaks", ChangeKind.SHRUNK)]


def test_larger_objects_are_news_too() -> None:
    small, large = streamed({"leaks": leak(5, 64)}, 1), streamed({"leaks": leak(5, 4096)}, 2)
    assert who(compare(small, large)) == [("leaks", ChangeKind.GROWN)]


def test_new_leaks_come_first_and_then_the_most_bytes() -> None:
    many = {**USUAL, "small": leak(5, 64), "large": leak(5, 4096)}
    assert who(compare(streamed(USUAL, 1), streamed(many, 2))) == [
        ("large", ChangeKind.NEW),
        ("small", ChangeKind.NEW),
    ]


def test_stacks_are_the_same_at_other_addresses() -> None:
    before = streamed(WITH_LEAK, 1)
    after = streamed(WITH_LEAK, 2, names=function_names(WITH_LEAK, KASLR))
    assert not compare(before, after).changes


def test_where_the_code_has_changed_functions_are_the_same() -> None:
    before = streamed({"leaks": leak(5)}, 1)
    after = streamed({"leaks": leak(5)}, 2, names=function_names({"leaks": leak(5)}, KASLR, offset=0x40))
    assert who(compare(before, after)) == [("leaks", ChangeKind.NEW), ("leaks", ChangeKind.GONE)]
    found = compare(before, after, CompareBy.FUNCTION)
    assert not found.changes
    assert found.compared == 1
    (change,) = compare(before, streamed({"leaks": leak(200)}, 2), CompareBy.FUNCTION).changes
    assert change.lines == ("leaks", "kthread")


def test_by_operation() -> None:
    before, after = streamed({"leaks": leak(5)}, 1), streamed({"leaks": leak(50)}, 2)
    assert compare(before, after).changes
    found = compare(before, after, operations=Operations(100, 1000))
    assert not found.changes
    assert (found.unit, found.before.units, found.after.units) == ("operation", 100, 1000)
    (change,) = compare(before, after, operations=Operations(100, 100)).changes
    assert change.bytes_per_unit.estimate == pytest.approx(change.bytes.estimate / 100)


def test_what_is_kept_on_purpose_is_told_apart() -> None:
    before, after = streamed({"core": leak(1)}, 1), streamed({"core": leak(1), "__d_alloc": leak(20)}, 2)
    found = compare(before, after)
    assert not found.changes
    assert [change.kept for change in found.kept] == ["belongs to an inode or dentry, which stay cached"]
    assert found.within == 1


def test_lost_events_hide_what_they_can_have_made() -> None:
    before, after = streamed(USUAL, 1), streamed(WITH_LEAK, 2)
    for frees, hidden in (((1000, 0, 0, 0), True), ((0, 0, 0, 0), False)):
        window = LossWindow(START_NS + SECOND, START_NS + 2 * SECOND, 1000, frees)
        found = compare(before, replace(after, loss=Loss(1000, windows=(window,))))
        assert [change.lines[0].partition("+")[0] for change in found.hidden] == (["leaks"] if hidden else [])
        assert bool(found.changes) != hidden
    window = LossWindow(START_NS + SECOND, START_NS + 2 * SECOND, 1000)
    assert compare(replace(before, loss=Loss(1000, windows=(window,))), after).hidden


def test_a_capture_that_breaks_off_is_compared_up_to_there() -> None:
    after = streamed(WITH_LEAK, 2)
    window = LossWindow(START_NS + 59 * SECOND, START_NS + 60 * SECOND, 10**6)
    found = compare(streamed(USUAL, 1), replace(after, loss=Loss(10**6, windows=(window,))))
    assert who(found) == [("leaks", ChangeKind.NEW)]


def confirmed(*at_s: float, stack: int = 1, **fields: object) -> Recording:
    """Objects of one stack, of which kmemleak lists all."""
    scene, listed = Scene(), []
    for number, seconds in enumerate(at_s):
        scene.allocate(seconds, HEAP + number * 0x1000, stack=stack)
        listed.append(suspect(seconds, HEAP + number * 0x1000))
    return scene_recording(scene, listed, listed, watched_s=12.0, **fields)


def test_one_leaked_object_is_news_if_it_is_confirmed() -> None:
    found = compare(confirmed(), confirmed(3.0))
    (change,) = found.changes
    assert change.is_new_leak
    assert change.because == (Because.LEAK,)
    assert change.key == "ab3001651563cb7b", "that of the report"
    assert (change.kind, change.after.verdict) == (ChangeKind.NEW, StackVerdict.CONFIRMED)
    (change,) = compare(confirmed(3.0), confirmed()).changes
    assert not change.is_new_leak
    assert (change.kind, change.because) == (ChangeKind.GONE, (Because.LEAK,))


def test_a_leak_that_is_known_is_none() -> None:
    assert not compare(confirmed(3.0), confirmed(3.0, 4.0)).changes
    assert [change.is_new_leak for change in compare(confirmed(3.0), confirmed(3.0, stack=2)).changes] == [True, False]


def test_a_leak_without_a_stack_may_be_new() -> None:
    found = compare(confirmed(), confirmed(3.0, stack=0))
    assert (found.nameless_leaks, found.changes, found.compared) == (1, [], 0)


def test_undecided_suspects_that_are_new() -> None:
    def lossy(*at_s: float) -> Recording:
        scene = Scene()
        scene.lose(0, 50, 1)
        for seconds in at_s:
            scene.allocate(seconds, HEAP)
        listed = [suspect(seconds, HEAP) for seconds in at_s]
        return scene_recording(scene, listed, listed, watched_s=12.0)

    found = compare(lossy(), lossy(3.0))
    assert found.undecided == ["ab3001651563cb7b"]
    assert not compare(lossy(3.0), lossy(3.0)).undecided


def driver_loaded(count: int) -> Recording:
    """The driver comes, and keeps so many objects from its probe on."""
    scene = Scene()
    for number in range(count):
        scene.allocate(1 + number / 1000, HEAP + number * 0x1000)
    return scene_recording(scene)


def without_driver() -> Recording:
    """It is not there."""
    found = streamed({"core": leak(1)}, 1)
    assert not found.names.symbols.module_names
    return found


def test_what_a_driver_keeps_is_news_if_the_other_has_not_seen_it() -> None:
    (change,) = (one for one in compare(without_driver(), driver_loaded(50)).changes if Because.MODULE in one.because)
    assert (change.kind, change.after.objects, change.before.objects) == (ChangeKind.NEW, 50, 0)
    (change,) = (one for one in compare(driver_loaded(50), without_driver()).changes if Because.MODULE in one.because)
    assert change.kind == ChangeKind.GONE
    assert not compare(driver_loaded(50), driver_loaded(1)).changes, "one burst is no more than another"


def test_what_only_one_of_them_can_see() -> None:
    before = replace(driver_loaded(1), coverage=(*FULL_COVERAGE[:-2], Coverage(CoverageKind.VFREE, None, "not seen")))
    found = compare(before, driver_loaded(1))
    assert found.not_comparable == ["vfree events are only seen in AFTER"]
    assert compare(driver_loaded(1), before).not_comparable == ["vfree events are only seen in BEFORE"]


def test_interrupts_are_one_stack_wherever_they_come() -> None:
    def interrupted(*outer: str) -> Recording:
        scene = Scene()
        for number, function in enumerate(outer):
            frames = ("__kmalloc_noprof", "core_alloc", "handle_softirqs", function)
            scene.names.stacks.add(20 + number, [inside(frame) for frame in frames])
            scene.allocate(number + 1, HEAP + number * 0x1000, stack=20 + number)
        return scene_recording(scene)

    found = compare(interrupted("kthread", "do_one_initcall"), interrupted("drv_work", "kthread", "core_free"))
    assert (found.compared, found.changes) == (1, [])


def test_frames_without_a_name_are_the_same_wherever_they_are() -> None:
    def unnamed(address: int) -> Recording:
        scene = Scene()
        scene.names.stacks.add(20, [inside("core_alloc"), address, inside("kthread")])
        scene.allocate(1, HEAP, stack=20)
        return scene_recording(scene)

    for by in CompareBy:
        assert compare(unnamed(0xFFFF_C900_0000_1000), unnamed(0xFFFF_C900_0000_2000), by).compared == 1


def test_the_report_of_one_leak_against_nothing() -> None:
    leaking, _ = one_leak()
    found = compare(scene_recording(Scene()), leaking)
    assert [change.is_new_leak for change in found.changes] == [True]
