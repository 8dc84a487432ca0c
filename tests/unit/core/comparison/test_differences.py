# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.comparison.arrivals import Counts
from kleaktrace.core.comparison.differences import Intervals, Lost, differences, quantile, widened


def poisson(*totals: float) -> Counts:
    return Counts(np.array(totals, float), np.array(totals, float))


def test_one_interval_is_as_wide_as_it_ever_was_and_many_are_wider() -> None:
    assert quantile(1) == pytest.approx(1.96, abs=0.001)
    assert quantile(1000) == pytest.approx(4.06, abs=0.01)
    assert quantile(0) == quantile(1)


def test_they_hold_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    for rate in (0.5, 3, 20, 300):
        pairs = [poisson(*random.poisson(rate, 4000)) for _ in range(2)]
        assert np.mean(differences(*pairs, 1.0, quantile(1)).told_apart) < 0.05


def test_a_leak_is_told_from_nothing() -> None:
    found = differences(poisson(0, 0, 0), poisson(3, 30, 300), 1.0, quantile(1000))
    assert found.told_apart.tolist() == [False, True, True]
    assert found.estimates.tolist() == [3, 30, 300]


def test_a_burst_is_not() -> None:
    burst = Counts(np.array([1000.0]), np.array([1000.0**2]))
    assert not differences(poisson(0), burst, 1.0, quantile(1)).told_apart.any()
    assert not differences(burst, poisson(0), 1.0, quantile(1)).told_apart.any()


def test_neither_a_leak_nor_a_cache_is_news_because_one_looked_for_longer() -> None:
    leak, cache = (100, 1000), (500, 500)
    found = differences(poisson(leak[0], cache[0]), poisson(leak[1], cache[1]), 10.0, quantile(1))
    assert not found.told_apart.any()
    found = differences(poisson(leak[1], cache[1]), poisson(leak[0], cache[0]), 0.1, quantile(1))
    assert not found.told_apart.any()
    assert differences(poisson(100), poisson(2000), 10.0, quantile(1)).told_apart.all()


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.01, 100), st.floats(1, 50), st.floats(1, 6))
def test_the_estimate_is_within_and_the_other_way_round_is_the_same(
    old: int, new: int, scale: float, event: float, z: float
) -> None:
    before, after = (Counts(np.array([float(n)]), np.array([n * event])) for n in (old, new))
    found = differences(before, after, scale, z)
    assert found.lows[0] <= found.estimates[0] <= found.highs[0]
    back = differences(after, before, 1 / scale, z)
    assert bool(back.told_apart[0]) == bool(found.told_apart[0])


def test_lost_events_make_it_wider_on_the_side_that_they_hide() -> None:
    found = Intervals(np.array([10.0]), np.array([5.0]), np.array([15.0]))
    nothing = Lost(np.zeros(1), np.zeros(1))
    some = Lost(np.array([3.0]), np.array([4.0]))
    after = widened(found, nothing, some, 1.0)
    assert (after.lows[0], after.highs[0]) == (2, 19)
    before = widened(found, some, nothing, 2.0)
    assert (before.lows[0], before.highs[0]) == (-3, 21)
