# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounded history of what was outstanding: what it keeps, what it costs, and the rates it gives."""

from __future__ import annotations

import numpy as np
import pytest

from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger.stack_counters import StackSnapshot

SECOND = 1_000_000_000


def snapshot(*levels: float) -> StackSnapshot:
    """Stacks 1, 2, 3, … with these bytes outstanding."""
    count = np.zeros(len(levels), np.uint64)
    return StackSnapshot(
        stacks=np.arange(1, len(levels) + 1, dtype=np.uint64),
        allocations=count,
        frees=count,
        implied_frees=count,
        bytes_allocated=np.array(levels).astype(np.uint64),
        bytes_closed=count,
    )


def watched(seconds: int, *levels_at) -> LevelHistory:
    watch = LevelHistory()
    for second in range(seconds + 1):
        watch.sample(second * SECOND, snapshot(*(level(second) for level in levels_at)))
    return watch


def test_growth_of_stacks_together():
    noise = np.random.default_rng(1).integers(0, 50, 61)
    watch = watched(60, lambda s: 100 * s + noise[s], lambda s: 30 * s, lambda s: 7000)
    both = watch.interval([1, 2])
    assert both.low <= 130 <= both.high
    assert both.high - both.low < 10
    alone = watch.interval([3])
    assert (alone.low, alone.estimate, alone.high) == (0, 0, 0)
    assert watch.interval([4]).estimate == 0


@pytest.mark.parametrize("seconds", [1, 127, 128, 129, 1000, 5000])
def test_the_history_covers_everything_evenly(seconds):
    watch = watched(seconds, lambda s: 10 * s)
    times = np.array(watch.times_ns)
    assert times[0] == 0
    assert times.size <= 128
    assert np.unique(np.diff(times)).size == 1
    assert times[-1] > seconds * SECOND - np.diff(times)[0]
    assert seconds < 128 or times.size >= 64
    assert watch.interval([1]).estimate == pytest.approx(10)


def test_samples_that_come_too_soon_are_not_kept():
    watch = watched(2, lambda s: s)
    assert not watch.due(2 * SECOND + 1)
    watch.sample(2 * SECOND + 1, snapshot(9e9))
    assert watch.times_ns == (0, SECOND, 2 * SECOND)
    assert watch.due(3 * SECOND)


def test_a_stack_that_came_later_had_nothing_before():
    watch = LevelHistory()
    for second in range(61):
        watch.sample(second * SECOND, snapshot(5) if second < 30 else snapshot(5, 600 * (second - 29)))
    early, late = watch.interval([2]), watch.interval([2], since_ns=31 * SECOND)
    assert early.estimate > 0
    assert late.estimate == pytest.approx(600)


def test_too_little_is_infinitely_uncertain():
    watch = watched(5, lambda s: 10 * s)
    assert watch.interval([1]).high == np.inf
    assert watch.interval([1], since_ns=100 * SECOND).low == -np.inf
    assert LevelHistory().interval([1]).high == np.inf


def test_memory_is_bounded():
    watch = LevelHistory()
    large = snapshot(*np.ones(100_000))
    for second in range(300):
        watch.sample(second * SECOND, large)
    assert watch.nbytes <= (32 << 20) + large.stacks.nbytes
    assert len(watch.times_ns) >= 16
    assert np.unique(np.diff(watch.times_ns)).size == 1


def test_levels_of_some_stacks_and_of_all_together():
    watch = LevelHistory()
    watch.sample(0, snapshot(5))
    watch.sample(SECOND, snapshot(7, 0, 9))
    assert watch.levels(np.array([3, 99, 1], np.uint64)).tolist() == [[0, 0, 5], [9, 0, 7]]
    assert watch.all_levels().tolist() == [5, 16]


def test_no_history_has_no_levels():
    assert LevelHistory().levels(np.array([1], np.uint64)).shape == (0, 1)
    assert LevelHistory().all_levels().size == 0
