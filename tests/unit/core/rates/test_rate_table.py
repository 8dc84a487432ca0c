# SPDX-License-Identifier: GPL-2.0-or-later
"""Rates of groups with their intervals, and how much of the machine's growth they explain."""

from __future__ import annotations

import numpy as np
import pytest
from builders import Scene

from kleaktrace.core.events.records import Kind
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.growth.level_history import LevelHistory, StartUp
from kleaktrace.core.ledger.stack_counters import StackSnapshot
from kleaktrace.core.rates.rate_table import (
    MACHINE_COUNTERS,
    CountedGroups,
    MachineHistory,
    explained,
    rates_by_group,
    reclaimable_stacks,
)
from kleaktrace.core.symbols.kernel_names import CacheName

SECOND = 1_000_000_000


def books(allocations: list[int], frees: list[int], size: int = 100) -> StackSnapshot:
    """Stacks 1, 2, 3, …; one free of each is an implied one, if there is any."""
    made, gone = np.array(allocations, np.uint64), np.array(frees, np.uint64)
    implied = np.minimum(gone, np.uint64(1))
    return StackSnapshot(
        stacks=np.arange(1, made.size + 1, dtype=np.uint64),
        allocations=made,
        frees=gone - implied,
        implied_frees=implied,
        bytes_allocated=made * np.uint64(size),
        bytes_closed=gone * np.uint64(size),
    )


def test_the_fastest_come_first_with_their_figures() -> None:
    """A leak in two stacks, a churn, and one that holds much but does not grow."""
    history = LevelHistory()
    for second in range(61):
        now = books([second, 2 * second, 1000 * second + 5, 9000], [0, 0, 1000 * second, 0])
        history.sample(second * SECOND, now)
    found = rates_by_group(["leak", "leak", "churn", "large"], now, 60.0, history, 3)
    assert [rate.label for rate in found] == ["leak", "large", "churn"]
    leak, _, churn = found
    assert (leak.allocations, leak.frees, leak.outstanding, leak.outstanding_bytes) == (3, 0, 180, 18_000)
    assert leak.net_bytes.low <= 300 <= leak.net_bytes.high
    assert leak.net_bytes.estimate == pytest.approx(300)
    assert churn.frees == 1000
    assert churn.net_bytes.estimate == 0


def test_of_those_that_do_not_grow_those_that_hold_most_come_first() -> None:
    """All came in a burst, and nothing since."""
    history = LevelHistory()
    for second in range(61):
        now = books([0, 0, 0] if second < 3 else [1, 25, 3], [0, 0, 0])
        history.sample(second * SECOND, now)
    found = rates_by_group(["a", "b", "c"], now, 60.0, history, 3)
    assert [rate.net_bytes for rate in found] == [Interval(0.0, 0.0, 0.0)] * 3
    assert [rate.label for rate in found] == ["b", "c", "a"]
    assert history.series([1, 2, 3]).start_up == StartUp(3.0, 2900)


def test_groups_that_never_allocated_are_left_out() -> None:
    assert [rate.label for rate in rates_by_group(["a", "b"], books([0, 5], [0, 0]), 1.0, LevelHistory(), 5)] == ["b"]


def test_with_too_few_samples_nothing_is_certain() -> None:
    history = LevelHistory()
    history.sample(0, books([0], [0]))
    history.sample(SECOND, books([5], [0]))
    (found,) = rates_by_group(["x"], books([5], [0]), 1.0, history, 5)
    assert (found.net_bytes.low, found.net_bytes.high) == (-np.inf, np.inf)
    assert rates_by_group([], books([], []), 1.0, history, 5) == []


def test_stacks_of_what_is_reclaimable_can_be_left_out() -> None:
    """Of a cache that shrinks, of a kmalloc that asks for it, of both kinds, and one that only looks like it."""
    scene = Scene()
    scene.names.caches[7] = CacheName(7, "dentry", 192, 192, True)
    scene.names.caches[8] = CacheName(8, "drv", 192, 192)
    kinds = [(1, Kind.CACHE, 7, 0), (2, Kind.KMALLOC, 0, 0x10), (3, Kind.CACHE, 7, 0), (3, Kind.CACHE, 8, 0)]
    for number, (stack, kind, cache, gfp_flags) in enumerate([*kinds, (4, Kind.PERCPU, 7, 0)]):
        scene.allocate(1.0, 4096 * (number + 1), stack=stack, kind=kind, cache=cache, gfp_flags=gfp_flags)
    found = reclaimable_stacks(scene.ledger, scene.names)
    assert found.tolist() == [1, 2]
    counters = scene.ledger.snapshot()
    counted = CountedGroups(GroupBy.REQUESTER, list("abcd"), counters, LevelHistory()).without(found)
    assert (counted.labels, counted.counters.stacks.tolist()) == (["c", "d"], [3, 4])
    assert counted.counters.allocations.tolist() == [2, 1]


def test_what_the_machine_says() -> None:
    machine = MachineHistory()
    for second in range(31):
        assert machine.due(second * SECOND)
        slab = 1_000_000 + 500 * second
        machine.sample(second * SECOND, {"Slab": slab, "SUnreclaim": slab // 2, "VmallocUsed": 200 * second})
    growth = machine.growth()
    assert {name: round(interval.estimate) for name, interval in growth.items()} == {
        "Slab": 500,
        "SReclaimable": 0,
        "SUnreclaim": 250,
        "VmallocUsed": 200,
        "Percpu": 0,
    }
    assert set(growth) == set(MACHINE_COUNTERS)
    assert machine.whole_growth().estimate == pytest.approx(700), "SUnreclaim is part of Slab"


@pytest.mark.parametrize(
    ("traced", "share"),
    [
        ((100.0, 90.0, 110.0), (0.5, 0.36, 0.73)),
        ((-100.0, -110.0, -90.0), (-0.5, -0.73, -0.36)),
        ((0.0, -150.0, 150.0), (0.0, -1.0, 1.0)),
    ],
)
def test_how_much_is_explained(traced: tuple[float, ...], share: tuple[float, ...]) -> None:
    found = explained(Interval(*traced), Interval(200.0, 150.0, 250.0))
    assert found is not None
    assert (round(found.estimate, 2), round(found.low, 2), round(found.high, 2)) == share


@pytest.mark.parametrize("machine", [(200.0, -10.0, 410.0), (-200.0, -300.0, -100.0), (5.0, -np.inf, np.inf)])
def test_only_what_clearly_grows_is_explained(machine: tuple[float, ...]) -> None:
    assert explained(Interval(100.0, 90.0, 110.0), Interval(*machine)) is None
