# SPDX-License-Identifier: GPL-2.0-or-later
"""When siblings' lives say that an allocation is too young to be judged."""

from __future__ import annotations

import numpy as np
import pytest

from kleaktrace.core.evidence.lifetimes import Lifetimes
from kleaktrace.core.ledger.stack_counters import StackTable

SECOND = 1_000_000_000


def lived(*seconds: float) -> Lifetimes:
    table = StackTable()
    numbers = table.index(np.full(len(seconds), 7, np.uint64))
    table.allocated(numbers, np.full(len(seconds), 64, np.uint64), np.zeros(len(seconds), np.uint8))
    ages = np.array([s * SECOND for s in seconds], np.uint64)
    table.freed(numbers, np.full(len(seconds), 64, np.uint64), ages, np.zeros(len(seconds), np.uint64))
    return Lifetimes.of(table.statistics([7]))


def test_younger_than_all_siblings_became() -> None:
    known = lived(*[45.0] * 8)
    assert known.older_than(25 * SECOND) == 8
    assert known.chance(25 * SECOND) == 1
    assert known.may_yet_end(25 * SECOND)


def test_a_little_older_than_eight_siblings_became_is_not_enough() -> None:
    known = lived(*[45.0] * 8)
    assert known.older_than(46 * SECOND) == 0
    assert known.chance(46 * SECOND) == pytest.approx(1 / 9)
    assert known.may_yet_end(46 * SECOND)
    assert not known.may_yet_end(400 * SECOND)


def test_far_older_than_siblings_that_lived_for_microseconds() -> None:
    known = lived(*[15e-6] * 36)
    assert known.chance(20 * SECOND) < 1e-9
    assert not known.may_yet_end(20 * SECOND)


def test_a_few_old_ones_of_very_many_do_not_matter() -> None:
    assert not lived(*[0.001] * 1000, 300.0).may_yet_end(25 * SECOND)
    assert lived(*[0.001] * 90, *[300.0] * 10).may_yet_end(25 * SECOND)


def test_of_a_few_siblings_only_an_older_one_says_something() -> None:
    assert lived(50.0).may_yet_end(30 * SECOND)
    assert not lived(10.0).may_yet_end(30 * SECOND)
    assert not Lifetimes().may_yet_end(1)


def test_several_stacks_count_together() -> None:
    assert Lifetimes.of([]) == Lifetimes()
    assert lived(1.0, 2.0, 3.0).freed == 3


@pytest.mark.parametrize("ages", [(45.0,) * 8, (15e-6,) * 36, (0.001,) * 90 + (300.0,) * 10, (50.0,), ()])
def test_the_age_from_which_on_it_is_old_enough(ages: tuple[float, ...]) -> None:
    known = lived(*ages)
    enough = known.old_enough_ns()
    assert not known.may_yet_end(enough)
    assert not enough or known.may_yet_end(enough - 1)
