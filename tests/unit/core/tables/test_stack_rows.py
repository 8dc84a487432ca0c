# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

from builders import DRIVER, SECOND, START_NS, Scene, inside, module_image
from exported import A, B, everything, exported, huge, nothing, recording
from reports import STACK, judged

from kleaktrace.core.events.records import Context
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.tables.stack_rows import stack_rows
from kleaktrace.views.exports.material import names_root_first


def test_a_row_has_the_counters_of_the_whole_window_and_what_is_outstanding() -> None:
    rows = {tuple(names_root_first(row.stack)): row for row in exported(everything()).rows}
    leaked = rows["do_one_initcall", "drv_probe [drv]"]
    assert (leaked.allocations, leaked.frees, leaked.implied_frees, leaked.allocated_bytes) == (3, 1, 0, 576)
    assert (leaked.outstanding, leaked.outstanding_bytes, leaked.oldest_ns) == (2, 256, START_NS + SECOND)
    assert (leaked.caches, leaked.contexts) == (("kmalloc-128",), ("task",))


def test_the_worst_that_is_known_of_a_stack_is_its_verdict() -> None:
    rows = exported(everything()).rows
    assert {tuple(names_root_first(row.stack)): str(row.verdict) for row in rows} == {
        ("kthread", "core_alloc"): "growing",
        ("(no stack could be taken)",): "alive",
        ("do_one_initcall", "drv_probe [drv]"): "confirmed",
        ("do_one_initcall", "drv_probe [drv]", "core_alloc"): "undecided",
    }


def verdict_with(**suspect_fields: object) -> str:
    """Of the driver's own stack, or of the lost one, if one of its objects is such a suspect."""
    stack = suspect_fields.get("stack", STACK.lines())
    scene = Scene()
    scene.allocate(1, A, stack=1 if stack else 0)
    made = recording(scene)
    (row,) = stack_rows(made, replace(made.report(), suspects=[judged(**suspect_fields)]))
    return str(row.verdict)


def test_what_counts_against_nobody_is_alive() -> None:
    assert verdict_with(verdict=Verdict.UNDECIDED) == "undecided"
    assert verdict_with(verdict=Verdict.UNDECIDED, counts_against_clean=False) == "alive"
    assert verdict_with(verdict=Verdict.DISMISSED) == "alive"


def test_what_is_said_of_one_lost_stack_is_not_said_of_all() -> None:
    assert verdict_with(verdict=Verdict.CONFIRMED, stack=()) == "alive"


def test_a_stack_whose_only_event_was_half_of_another_has_no_row() -> None:
    scene = Scene()
    for stack in (2, 1):  # a kmalloc too large for the slab caches is reported twice
        scene.allocate(1, A, size=1 << 16, stack=stack, call_site=inside("core_alloc", stack))
    rows = exported(recording(scene)).rows
    assert [row.stack.frames[0].name for row in rows] == ["drv_probe"]


def test_rows_add_up_to_the_totals_and_the_largest_come_first() -> None:
    material = exported(everything())
    rows, totals = material.rows, material.report.totals
    assert sum(row.allocations for row in rows) == totals.allocations
    assert sum(row.frees for row in rows) == totals.frees
    assert sum(row.outstanding for row in rows) == totals.outstanding
    assert sum(row.outstanding_bytes for row in rows) == totals.outstanding_bytes
    assert [row.outstanding_bytes for row in rows] == sorted((row.outstanding_bytes for row in rows), reverse=True)


def test_what_was_freed_again_has_a_row_too() -> None:
    scene = Scene()
    scene.allocate(1, A, size=100)
    scene.free(2, A)
    (row,) = exported(recording(scene)).rows
    assert (row.allocations, row.frees, row.outstanding, row.oldest_ns, row.caches) == (1, 1, 0, None, ())


def test_a_stack_in_several_caches_is_one_row() -> None:
    scene = Scene()
    scene.allocate(2, A, size=100)
    scene.allocate(1, B, size=1000, context=Context.SOFTIRQ)
    (row,) = exported(recording(scene)).rows
    assert (row.caches, row.contexts) == (("kmalloc-128", "kmalloc-1k"), ("softirq", "task"))
    assert (row.outstanding, row.oldest_ns) == (2, START_NS + SECOND)


def test_a_module_that_came_again_elsewhere_is_in_one_row() -> None:
    scene = Scene()
    scene.allocate(1, A)
    scene.unload(2)
    scene.names.symbols.module_loaded(module_image(base=DRIVER + 0x100000, key=0xFFFFFFFFC0400000))
    scene.names.stacks.add(
        9, [inside("__kmalloc_noprof"), DRIVER + 0x100022, inside("do_one_initcall")]
    )  # the same functions, somewhere else
    scene.allocate(3, B, stack=9)
    (row,) = exported(recording(scene)).rows
    assert (row.allocations, row.outstanding) == (2, 2)


def test_an_empty_recording_has_no_rows() -> None:
    assert exported(nothing()).rows == []


def test_large_numbers_are_exact_in_the_counters() -> None:
    (row,) = exported(huge()).rows
    assert row.allocated_bytes == (1 << 63) + 5
