# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations and frees by comm, process, cgroup and cache, against a count by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from builders import kernel_names, rows

from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.grouping.outstanding_groups import group_tally
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.rates import event_group_counter
from kleaktrace.core.rates.event_group_counter import OTHERS, GroupCounter
from kleaktrace.core.symbols.kernel_names import CacheName

STACKS = {0: Context.UNKNOWN, 5: Context.SOFTIRQ, 6: Context.TASK}
"""What call stacks tell of the context, by key."""

BY = [by for by in GroupBy if not by.by_stack]


class World:
    """A ledger and a counter that see the same."""

    def __init__(self, by: GroupBy) -> None:
        self.ledger, self.counter, self._sequence = Ledger(), GroupCounter(by, STACKS.__getitem__), 0

    def play(self, allocations: list[dict[str, object]] = (), freed: list[int] = ()) -> None:  # type: ignore[assignment]
        rows_of = []
        for fields in allocations:
            self._sequence += 1
            rows_of.append({"sequence": self._sequence, "bytes_alloc": 64, **fields})
        frees = [{"sequence": self._sequence + n, "object": address} for n, address in enumerate(freed, start=1)]
        self._sequence += len(frees)
        batch = Batch(rows(ALLOCATION, *rows_of), rows(FREE, *frees))
        self.ledger.apply(batch)
        self.counter.add(batch)

    def table(self) -> dict[str, tuple[int, int, int, int]]:
        """Allocations, frees, outstanding and its bytes, by name."""
        names = kernel_names()
        names.caches[77] = CacheName(77, "dentry", 192, 192)
        found = self.counter.snapshot(self.ledger.outstanding())
        columns = (found.allocations, found.frees, found.outstanding, found.outstanding_bytes)
        figures = zip(*(column.tolist() for column in columns), strict=True)
        labels = self.counter.labels(names, lambda number: f"/group{number}")
        return dict(zip(labels, figures, strict=True))


def test_caches_that_shrink_are_known_by_their_numbers() -> None:
    world = World(GroupBy.CACHE)
    kinds = [(Kind.KMALLOC, 0), (Kind.CACHE, 77), (Kind.CACHE, 78)]
    world.play([{"object": n, "kind": kind, "cache": cache} for n, (kind, cache) in enumerate(kinds, start=10)])
    names = kernel_names()
    names.caches[77], names.caches[78] = CacheName(77, "dentry", 192, 192, True), CacheName(78, "drv", 64, 64)
    (number,) = world.counter.reclaimable(names).tolist()
    snapshot, labels = world.counter.snapshot(world.ledger.outstanding()), world.counter.labels(names, str)
    assert labels[snapshot.stacks.tolist().index(number)] == "dentry"


def test_frees_are_what_is_no_longer_there() -> None:
    world = World(GroupBy.COMM)
    world.play([{"object": n, "comm": b"one"} for n in range(10, 15)] + [{"object": 99, "comm": b"fifteen letters"}])
    assert world.table() == {OTHERS: (0, 0, 0, 0), "one": (5, 0, 5, 320), "fifteen letters": (1, 0, 1, 64)}
    world.play([{"object": 20, "comm": b"two"}], [10, 11, 99])
    assert world.table() == {
        OTHERS: (0, 0, 0, 0),
        "one": (5, 2, 3, 192),
        "fifteen letters": (1, 1, 0, 0),
        "two": (1, 0, 1, 64),
    }


@pytest.mark.parametrize("by", BY)
def test_it_is_the_group_that_trace_shows(by: GroupBy) -> None:
    events = [
        {"object": 10 + number, "kind": kind, "context": context, "cache": cache, "comm": b"victim", "tgid": 7}
        for number, (kind, context, cache) in enumerate(
            (kind, context, cache)
            for kind in (Kind.KMALLOC, Kind.CACHE)
            for context in (Context.TASK, Context.SOFTIRQ, Context.HARDIRQ, Context.NMI)
            for cache in (77, 78)
        )
    ]
    world = World(by)
    world.play(events)
    counted = {name: (count, size) for name, (_, _, count, size) in world.table().items() if count}
    names = kernel_names()
    names.caches[77] = CacheName(77, "dentry", 192, 192)
    shown = group_tally(world.ledger.tally(by_process=by.by_process), names, by, lambda number: f"/group{number}")
    assert {one.label: (one.count, one.bytes) for one in shown} == counted


@pytest.mark.parametrize("by", [GroupBy.COMM, GroupBy.PID, GroupBy.CGROUP])
def test_an_interrupt_is_not_the_task_it_came_upon(by: GroupBy) -> None:
    world = World(by)
    who = {"comm": b"victim", "tgid": 7, "cgroup": 9}
    for number, context in enumerate((*Context, Context.TASK)):
        world.play([{"object": number, "context": context, **who}])
    table = world.table()
    (task,) = [name for name in table if "(" not in name or "victim" in name]
    assert task == {GroupBy.COMM: "victim", GroupBy.PID: "7 (victim)", GroupBy.CGROUP: "/group9"}[by]
    assert table[task][0] == 3, "two of the task's own, and one of which the context is not known"
    assert {name: table[name][0] for name in table if name != task} == {
        OTHERS: 0,
        "(softirq)": 1,
        "(hardirq)": 1,
        "(nmi)": 1,
    }


@pytest.mark.parametrize("by", [GroupBy.COMM, GroupBy.PID, GroupBy.CGROUP])
def test_where_events_do_not_tell_of_interrupts_stacks_do(by: GroupBy) -> None:
    world = World(by)
    who = {"comm": b"victim", "tgid": 7, "cgroup": 9, "context": Context.UNKNOWN}
    world.play([{"object": number, "stack": stack, **who} for number, stack in enumerate((5, 6, 5, 0))])
    table = world.table()
    assert table["(softirq)"] == (2, 0, 2, 128)
    assert sum(figures[0] for figures in table.values()) == 4


def test_a_process_goes_by_the_name_it_had_last() -> None:
    world = World(GroupBy.PID)
    world.play([{"object": 1, "tgid": 7, "comm": b"sh"}])
    world.play([{"object": 2, "tgid": 7, "comm": b"make"}])
    assert set(world.table()) == {OTHERS, "7 (make)"}


def test_caches_are_told_as_the_tables_tell_them() -> None:
    world = World(GroupBy.CACHE)
    world.play(
        [
            {"object": 1, "kind": Kind.CACHE, "cache": 77, "bytes_alloc": 192},
            {"object": 2, "kind": Kind.KMALLOC, "bytes_alloc": 192},
            {"object": 3, "kind": Kind.KMALLOC, "bytes_alloc": 16384},
            {"object": 4, "kind": Kind.KMALLOC, "bytes_alloc": 1 << 20},
            {"object": 5, "kind": Kind.VMALLOC, "bytes_alloc": 1 << 40},
            {"object": 6, "kind": Kind.VMALLOC, "bytes_alloc": 8192},
            {"object": 7, "kind": Kind.PERCPU, "bytes_alloc": 8},
        ]
    )
    counts = {name: figures[0] for name, figures in world.table().items()}
    assert counts == {OTHERS: 0, "dentry": 1, "kmalloc-192": 1, "kmalloc-large": 2, "vmalloc": 2, "percpu": 1}
    assert world.table()["vmalloc"][3] == (1 << 40) + 8192


@pytest.mark.parametrize("by", BY)
def test_any_history_adds_up(by: GroupBy) -> None:
    random, world, alive, expected = np.random.default_rng(3), World(by), [], Counter()
    for start in range(1000, 5000, 100):
        made = [
            {"object": address, "comm": b"c%d" % (address % 5), "tgid": address % 7, "cgroup": address % 3}
            for address in range(start, start + 100)
        ]
        alive += [row["object"] for row in made]
        random.shuffle(alive)
        world.play(made, [alive.pop() for _ in range(60)])
        expected["allocations"] += 100
        table = world.table().values()
        assert sum(figures[0] for figures in table) == expected["allocations"]
        assert sum(figures[2] for figures in table) == len(alive)
        assert all(figures[0] - figures[1] == figures[2] for figures in table)


def test_groups_are_bounded_and_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_group_counter, "MOST_GROUPS", 3)
    world = World(GroupBy.PID)
    for start in (10, 20, 30):
        world.play([{"object": start + n, "tgid": start + n} for n in range(5)])
    world.play([], [10, 34])
    table = world.table()
    assert list(table) == [OTHERS, "10 ()", "11 ()", "12 ()"]
    assert table["10 ()"][:2] == (1, 1)
    assert table[OTHERS][:3] == (12, 1, 11)
