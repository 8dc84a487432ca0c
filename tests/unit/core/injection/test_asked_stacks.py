# SPDX-License-Identifier: GPL-2.0-or-later
"""Where allocations fail by number: what should have failed, and whether it has."""

from __future__ import annotations

import pytest
from builders import Scene, inside, rows

from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind
from kleaktrace.core.evidence.injected_runs import FailedAllocation
from kleaktrace.core.injection.asked_stacks import (
    AskedStacks,
    each_path_once,
    numbers_near,
    passed_over,
    path_through_modules,
)
from kleaktrace.core.injection.report import by_number_gaps
from kleaktrace.edge.tracing.name_records import CacheName

PID = 77
NOWARN, NOFAIL = 0x2000, 0x8000


def failed(*stack: str) -> FailedAllocation:
    return FailedAllocation(0, stack, 0)


def asked(**fields: object) -> list[tuple[str, ...]]:
    """The stacks of one allocation, as far as it could fail."""
    names = Scene().names
    names.caches[9] = CacheName(9, "kmem_cache", 256, 256, 0)
    names.stacks.add(20, [inside("__kmalloc_noprof"), inside("core_alloc"), inside("kthread")])
    row = {"object": 1, "stack": 1, "tgid": PID, "kind": Kind.KMALLOC, "bytes_req": 64, "time_ns": 5, **fields}
    seen = AskedStacks()
    seen.begin(names)
    seen.batch(Batch(rows(ALLOCATION, row), rows(FREE)))
    return [one.stack for one in seen.of(PID, None)]


def test_what_a_process_asks_for_through_a_module_could_fail() -> None:
    ((first, *_),) = asked()
    assert first.startswith("drv_probe+")
    (through,) = asked(stack=2)
    assert through[0].startswith("core_alloc+")


@pytest.mark.parametrize(
    "fields",
    [
        {"tgid": PID + 1},
        {"stack": 20},
        {"kind": Kind.PERCPU},
        {"context": Context.SOFTIRQ},
        {"gfp_flags": NOFAIL | 0xCC0},
        {"gfp_flags": NOWARN | 0xCC0},
        {"kind": Kind.CACHE, "cache": 9},
    ],
)
def test_what_the_kernel_does_not_count_for_it_could_not(fields: dict[str, object]) -> None:
    assert asked(**fields) == []


def test_what_an_interrupt_asked_for_could_not_where_only_its_stack_tells() -> None:
    names, seen = Scene().names, AskedStacks()
    seen.begin(names)
    names.stacks.add(21, [inside("__kmalloc_noprof"), inside("drv_probe"), inside("handle_softirqs")])
    row = {"object": 1, "tgid": PID, "kind": Kind.KMALLOC, "context": Context.UNKNOWN}
    seen.batch(Batch(rows(ALLOCATION, {**row, "stack": 1}, {**row, "stack": 21}), rows(FREE)))
    assert [one.stack[1].partition("+")[0] for one in seen.of(PID, None)] == ["do_one_initcall"]


def test_each_call_stack_is_told_once_and_none_after_enough() -> None:
    seen = AskedStacks()
    seen.begin(Scene().names)
    row = {"object": 1, "stack": 1, "tgid": PID, "kind": Kind.KMALLOC, "bytes_req": 64}
    batch = Batch(rows(ALLOCATION, {**row, "time_ns": 5}, {**row, "time_ns": 7}), rows(FREE))
    seen.batch(batch)
    seen.batch(batch)
    seen.enough()
    seen.batch(Batch(rows(ALLOCATION, {**row, "stack": 2, "time_ns": 9}), rows(FREE)))
    (one,) = seen.of(PID, None)
    assert (one.time_ns, one.bytes) == (5, 64)
    assert seen.of(PID, "drv") == [one]
    assert seen.of(PID, "other") == []


A, B, LOADER = ("alloc_a+0x1/0x2 [drv]", "drv_init+0x1/0x2 [drv]"), ("alloc_b+0x1/0x2 [drv]",), ("load_elf+0x1/0x2",)


def test_two_call_stacks_are_the_same_if_they_are_up_to_the_last_module() -> None:
    assert path_through_modules((*A, "do_one_initcall+0x1/0x2", "ret_from_fork+0x1/0x2")) == A
    assert path_through_modules(LOADER) == ()
    assert passed_over([failed(*A, "x+0x1/0x2"), failed(*B)], [failed(*A, "y+0x1/0x2"), failed(*LOADER)]) == [
        failed(*B)
    ]


def test_each_call_stack_through_modules_counts_once() -> None:
    assert each_path_once([failed(*A), failed(*B), failed(*LOADER), failed(*A, "x+0x1/0x2")]) == [
        failed(*A),
        failed(*B),
    ]


def test_numbers_near_calls_of_modules_are_tried_again() -> None:
    by_number = {1: failed(*LOADER), 2: failed(*A), 3: failed(*LOADER), 9: failed(*B), 20: failed()}
    assert numbers_near(by_number, 2) == [1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert numbers_near({1: failed(*LOADER), 2: failed()}, 2) == [1, 2]


def test_what_never_failed_makes_the_evidence_incomplete() -> None:
    assert by_number_gaps([failed(*A)], []) == []
    assert by_number_gaps([failed(*A)], [failed(*A)]) == [
        "a call stack of modules never failed, though plain runs asked there: alloc_a+0x1"
    ]
    (many,) = by_number_gaps([failed(*A)], [failed(f"alloc_{number}+0x1/0x2 [drv]") for number in range(7)])
    assert many.startswith("7 call stacks of modules never failed")
    assert many.endswith("alloc_4+0x1, …")
