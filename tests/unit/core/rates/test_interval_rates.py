# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from builders import Scene, rows

from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.grouping.outstanding_groups import group
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING
from kleaktrace.core.rates.interval_rates import CounterSnapshot, Rate, rates

A = 0xFFFF888100010000
SECOND = 1_000_000_000


def test_rates_are_the_difference_of_two_looks_per_second() -> None:
    scene = Scene()
    scene.allocate(1, A)
    before = CounterSnapshot.at(10 * SECOND, scene.ledger.snapshot())
    for number in range(1, 9):
        scene.allocate(2, A + 4096 * number)
    scene.free(3, A)
    scene.free(3, A + 4096)
    scene.allocate(3, A + 8192)  # a free implied
    now = CounterSnapshot.at(14 * SECOND, scene.ledger.snapshot())
    groups = group(scene.ledger.outstanding(), scene.names)
    assert rates(groups, before, now) == [Rate(9 / 4, 3 / 4, 6 * 128 / 4)]
    assert rates(groups, now, now) == [Rate(0, 0, 0)]


def test_before_anything_was_counted_all_counts() -> None:
    scene = Scene()
    scene.allocate(1, A)
    now = CounterSnapshot.at(12 * SECOND, scene.ledger.snapshot())
    groups = group(scene.ledger.outstanding(), scene.names)
    assert rates(groups, CounterSnapshot.empty(10 * SECOND), now) == [Rate(0.5, 0, 64)]


def test_a_set_that_shrinks_has_a_negative_rate() -> None:
    scene = Scene()
    scene.allocate(1, A)
    scene.allocate(1, A + 4096)
    before = CounterSnapshot.at(0, scene.ledger.snapshot())
    scene.free(2, A)
    now = CounterSnapshot.at(SECOND, scene.ledger.snapshot())
    assert rates(group(scene.ledger.outstanding(), scene.names), before, now)[0].net_bytes == -128


def test_a_group_sums_its_stacks_and_stacks_seen_since_count_from_zero() -> None:
    scene = Scene()
    scene.allocate(1, A, stack=1)
    before = CounterSnapshot.at(0, scene.ledger.snapshot())
    scene.allocate(2, A + 4096, stack=3)
    now = CounterSnapshot.at(SECOND, scene.ledger.snapshot())
    (everything,) = group(scene.ledger.outstanding(), scene.names, GroupBy.CONTEXT)
    assert everything.stack_keys == (1, 3)
    assert rates([everything], before, now) == [Rate(1, 0, 128)]


def test_stacks_that_the_books_do_not_have_move_nothing() -> None:
    scene = Scene()
    now = CounterSnapshot.at(SECOND, scene.ledger.snapshot())
    stranger = group(rows(OUTSTANDING, {"stack": 99, "bytes_alloc": 8}), scene.names)
    assert rates(stranger, CounterSnapshot.empty(0), now) == [Rate(0, 0, 0)]


@pytest.mark.parametrize("later", [0, -5])
def test_two_looks_at_once_divide_by_nothing(later: int) -> None:
    scene = Scene()
    look = CounterSnapshot.at(SECOND, scene.ledger.snapshot())
    assert rates([], look, CounterSnapshot.at(SECOND + later, scene.ledger.snapshot())) == []
    scene.allocate(1, A)
    now = CounterSnapshot.at(SECOND + later, scene.ledger.snapshot())
    assert rates(group(scene.ledger.outstanding(), scene.names), look, now)[0].allocations > 0
