# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from builders import Scene, inside, module_image, suspect
from recordings import HEAP, judged, one_leak, scene_recording

from kleaktrace.core.events.records import Context
from kleaktrace.core.overview.stack_overview import NOT_SEEN, StackOverview, stack_overview

HELPER = 0xFFFFFFFFC0300000


def titles(overview: StackOverview) -> list[str]:
    """Of each stack the function at its leaf."""
    tree = overview.tree
    return [str(tree.frames[tree.frame_numbers[leaf]].name) for leaf in overview.leaves.tolist()]


def test_what_is_confirmed_comes_first_with_all_that_was_counted() -> None:
    overview = stack_overview(*one_leak())
    assert titles(overview) == ["drv_probe", "core_alloc"]
    assert overview.objects.tolist() == [1, 1]
    assert overview.bytes.tolist() == [128, 4096]
    assert overview.allocations.tolist() == [6, 1]
    assert overview.freed.tolist() == [5, 0]
    assert overview.oldest_s.tolist() == [60.0, 40.0]
    assert overview.caches == ["kmalloc-128", "kmalloc-4k"]
    assert overview.comms == ["insmod", "kthreadd"]
    assert overview.contexts == ["task", "task"]
    assert overview.keys == [(1,), (3,)]
    assert overview.suspected.confirmed.tolist() == [1, 0]
    assert overview.suspected.confirmed_bytes.tolist() == [128, 0]
    assert overview.of_suspects == [0]


def test_a_stack_ends_where_an_interrupt_came_in() -> None:
    scene = Scene()
    for key, interrupted in ((10, "kthread"), (11, "do_one_initcall")):
        scene.names.stacks.add(key, [inside("core_alloc"), inside("handle_softirqs"), inside(interrupted)])
        scene.allocate(key, HEAP + key * 0x1000, stack=key, context=Context.SOFTIRQ)
    overview = stack_overview(*judged(scene_recording(scene)))
    assert overview.count == 1
    assert overview.keys == [(10, 11)]
    assert overview.objects.tolist() == [2]
    assert overview.contexts == ["softirq"]


def test_helpers_are_not_who_asked() -> None:
    scene = Scene()
    scene.names.symbols.module_loaded(module_image("helper", HELPER, {"devm_kmalloc": 0}, key=1))
    scene.names.stacks.add(10, [HELPER + 0x22, inside("core_alloc"), inside("kthread")])
    scene.allocate(1, HEAP, stack=10)
    scene.allocate(1, HEAP + 0x1000, stack=3)
    overview = stack_overview(*judged(scene_recording(scene)))
    assert dict(zip(titles(overview), overview.requesters_at.tolist(), strict=True)) == {
        "devm_kmalloc": 1,
        "core_alloc": 0,
    }


def test_suspects_that_no_stack_was_seen_of_belong_to_none() -> None:
    scene = Scene()
    old = suspect(-100, HEAP)
    recording, report = judged(scene_recording(scene, [old], [old], watched_s=12.0))
    assert [s.in_window for s in report.suspects] == [False]
    assert stack_overview(recording, report).of_suspects == [NOT_SEEN]


def test_without_a_stack_there_is_one_line_for_all() -> None:
    scene = Scene()
    scene.allocate(1, HEAP, stack=0)
    overview = stack_overview(*judged(scene_recording(scene)))
    assert titles(overview) == ["(no stack could be taken)"]


def test_nothing_is_no_stack() -> None:
    assert stack_overview(*judged(scene_recording(Scene()))).count == 0
