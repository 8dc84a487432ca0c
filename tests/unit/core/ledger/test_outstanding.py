# SPDX-License-Identifier: GPL-2.0-or-later
"""Grouping outstanding allocations, against a naive grouping one by one."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from builders import Scene, inside, kernel_names, module_image, rows
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.records import Context, Kind
from kleaktrace.core.grouping.group_labels import OUTSTANDING_BY, GroupBy, label
from kleaktrace.core.grouping.outstanding_groups import group
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING
from kleaktrace.core.symbols.kernel_names import CacheName, KernelNames


def names() -> KernelNames:
    """Stacks 1 to 4 as in `Scene`, and two slab caches."""
    known = Scene().names
    known.caches = {7: CacheName(7, "dentry", 192, 192), 8: CacheName(8, "inode_cache", 600, 608)}
    return known


def row(**fields: object) -> dict[str, object]:
    return {"stack": 1, "bytes_alloc": 64, "kind": Kind.KMALLOC, "comm": b"task", "time_ns": 5, **fields}


allocations = st.fixed_dictionaries(
    {
        "stack": st.integers(0, 5),
        "cache": st.sampled_from([0, 7, 8, 9]),
        "kind": st.sampled_from(list(Kind)),
        "context": st.sampled_from(list(Context)),
        "bytes_alloc": st.sampled_from([8, 64, 4096, 1 << 33]),
        "comm": st.sampled_from([b"a", b"b", b"\xff\x1b"]),
        "tgid": st.sampled_from([0, 7]),
        "cgroup": st.sampled_from([0, 1, 1 << 40]),
        "time_ns": st.integers(0, 50),
    }
)


def naive_task(event: dict, by: GroupBy) -> tuple[object, ...]:
    if event["context"] in (Context.SOFTIRQ, Context.HARDIRQ, Context.NMI):
        return (event["context"].name,)
    task = {GroupBy.COMM: (event["comm"],), GroupBy.PID: (event["tgid"], event["comm"])}
    return task.get(by, (event["cgroup"],))


def naive_label(event: dict, by: GroupBy, known: KernelNames) -> tuple[object, ...]:
    stack = known.stacks.get(event["stack"])
    cache = known.cache(event["kind"], event["cache"], event["bytes_alloc"])
    context = event["context"] if event["context"] is not Context.UNKNOWN else stack.context
    match by:
        case GroupBy.STACK:
            return tuple(stack.lines()), cache, context.name.lower()
        case GroupBy.CACHE:
            return (cache,)
        case GroupBy.CONTEXT:
            return (context.name.lower(),)
    if not stack.frames:
        return ("(no stack could be taken)",)
    first = f"{stack.frames[0].name} {stack.frames[0].module}"
    module = next((frame.module for frame in stack.frames if frame.module), "(kernel)")
    return (first if by is GroupBy.REQUESTER else module,)


@pytest.mark.parametrize("by", OUTSTANDING_BY)
@given(events=st.lists(allocations, max_size=40))
@pytest.mark.thorough
def test_groups_are_what_a_naive_grouping_finds(by: GroupBy, events: list[dict]) -> None:
    known = names()
    expected: dict[tuple[object, ...], list[dict]] = defaultdict(list)
    for event in events:
        expected[naive_task(event, by) if by.by_task else naive_label(event, by, known)].append(event)
    found = group(rows(OUTSTANDING, *events), known, by)
    assert sorted((g.count, g.bytes, g.oldest_ns, g.stack_keys) for g in found) == sorted(
        (
            len(members),
            sum(m["bytes_alloc"] for m in members),
            min(m["time_ns"] for m in members),
            tuple(sorted({m["stack"] for m in members})),
        )
        for members in expected.values()
    )
    assert [g.bytes for g in found] == sorted((g.bytes for g in found), reverse=True)


def test_nothing_outstanding_is_no_group() -> None:
    assert group(np.zeros(0, OUTSTANDING), names()) == []


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        (GroupBy.CACHE, ["kmalloc-4k", "dentry"]),
        (GroupBy.COMM, ["(softirq)", "task"]),
        (GroupBy.CONTEXT, ["softirq", "task"]),
        (GroupBy.MODULE, ["drv", "(kernel)"]),
    ],
)
def test_a_group_is_labelled_by_what_it_has_in_common(by: GroupBy, labels: list[str]) -> None:
    table = rows(
        OUTSTANDING,
        row(bytes_alloc=4096, context=Context.SOFTIRQ, comm=b"evil\xff\x1b"),
        row(stack=3, kind=Kind.CACHE, cache=7),
    )
    assert [g.label for g in group(table, names(), by)] == labels


@pytest.mark.parametrize("by", [GroupBy.MODULE, GroupBy.CONTEXT])
def test_what_an_interrupt_came_upon_is_nobody_s_and_rates_say_so_too(by: GroupBy) -> None:
    known = kernel_names()
    known.symbols.module_loaded(module_image())
    known.stacks.add(9, [inside(name) for name in ("__kmalloc_noprof", "core_alloc", "handle_softirqs", "drv_work")])
    stack = known.stacks.get(9)
    (found,) = group(rows(OUTSTANDING, row(stack=9, context=Context.SOFTIRQ)), known, by)
    assert found.label == label(stack, by) == {GroupBy.MODULE: "(kernel)", GroupBy.CONTEXT: "softirq: core_alloc"}[by]


def test_what_lies_behind_a_name_s_end_is_no_part_of_it() -> None:
    (found,) = group(rows(OUTSTANDING, row(comm=b"sh\0\0\0ce")), names())
    assert found.comm == "sh"


def test_many_names_are_cut_and_counted() -> None:
    table = rows(OUTSTANDING, *(row(comm=comm) for comm in (b"e", b"d", b"c", b"b", b"a")))
    assert group(table, names(), GroupBy.CACHE)[0].comm == "a, b, c, … (5)"


def test_one_stack_out_of_two_caches_makes_two_groups() -> None:
    table = rows(OUTSTANDING, row(kind=Kind.CACHE, cache=7), row(kind=Kind.CACHE, cache=8))
    assert {g.cache for g in group(table, names())} == {"dentry", "inode_cache"}
