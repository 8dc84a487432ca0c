# SPDX-License-Identifier: GPL-2.0-or-later
"""Intervals for rates: how often they hold the truth, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from allocation_processes import bursty_leak, clockwork_leak, leak

from kleaktrace.core.growth.intervals import mean_interval, settled, slope_interval, student_t, total_interval

PARTS = 64


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.1824), (4, 2.7764), (6, 2.4469), (10, 2.2281), (30, 2.0423)])
def test_student_t(freedom, quantile):
    assert student_t(freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize(("count", "low", "high"), [(5, 1.62, 11.67), (10, 4.80, 18.39), (100, 81.36, 121.63)])
def test_equal_arrivals_have_the_interval_of_garwood(count, low, high):
    parts = np.zeros(PARTS)
    parts[np.linspace(0, PARTS - 1, count).round().astype(int) % PARTS] += 0  # evenly: no more variance than chance
    np.add.at(parts, np.linspace(0, PARTS - 1, count).round().astype(int), 1.0)
    interval = total_interval(parts, float(count))
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((low, count, high), rel=0.02)


def test_nothing_that_came_is_no_rate():
    interval = total_interval(np.zeros(PARTS), 0.0)
    assert (interval.estimate, interval.low) == (0.0, 0.0)


def test_few_large_arrivals_are_less_certain_than_many_small_ones():
    parts = np.ones(PARTS)
    small, large = total_interval(parts, 64.0), total_interval(parts, 64.0**2 / 4)
    assert large.low < small.low < small.high < large.high


@pytest.mark.parametrize("seconds", [30, 60, 120])
@pytest.mark.parametrize("rate", [0.5, 5, 50, 500])
@pytest.mark.parametrize(("make", "least"), [(leak, 0.93), (clockwork_leak, 0.99)])
@pytest.mark.thorough
def test_total_interval_holds_the_true_rate(make, least, rate, seconds):
    assert coverage_of_totals(make, rate, seconds) >= least


@pytest.mark.parametrize("seconds", [60, 120])
@pytest.mark.parametrize("rate", [5, 50, 500])
@pytest.mark.thorough
def test_total_interval_holds_the_true_rate_of_bursts(rate, seconds):
    assert coverage_of_totals(bursty_leak, rate, seconds) >= 0.93


def coverage_of_totals(make, rate: float, seconds: float, runs: int = 400) -> float:
    held = 0
    for seed in range(runs):
        births = make(np.random.default_rng([seed, 5]), seconds, rate)[0]
        parts = np.histogram(births, PARTS, (0, seconds))[0].astype(np.float64)
        interval = total_interval(parts, float(births.size))
        held += interval.low <= rate * seconds <= interval.high
    return held / runs


def test_mean_interval_counts_autocorrelation():
    """Increments of which each stays for five steps; taken for independent, the interval held 61 % of the time."""
    held = 0
    for seed in range(400):
        series = np.repeat(np.random.default_rng([seed, 6]).normal(1, 1, 24), 5)
        interval = mean_interval(series)
        held += interval.low <= 1 <= interval.high
    assert held >= 0.92 * 400


def test_few_increments_are_infinitely_uncertain():
    interval = mean_interval(np.arange(7.0))
    assert (interval.estimate, interval.low, interval.high) == (3.0, -np.inf, np.inf)
    assert mean_interval(np.zeros(0)).estimate == 0


def test_settled_cuts_the_start_up_and_nothing_else():
    steady = np.random.default_rng(7).normal(1, 0.1, 60)
    started = steady + 100 * np.exp(-np.arange(60) / 2)
    assert 40 <= settled(started).size <= 55
    assert settled(np.ones(60)).size == 60
    assert settled(np.linspace(60, 1, 60)).size == 60  # never settles
    assert settled(np.zeros(0)).size == 0


def levels(seed: int, seconds: int, leaks: float, churn: float, mean_life: float) -> np.ndarray:
    """Objects outstanding at every second: a leak over objects that come and go."""
    random = np.random.default_rng([seed, 8])
    leaked = random.uniform(0, seconds, random.poisson(leaks * seconds))
    born = random.uniform(0, seconds, random.poisson(churn * seconds))
    died = born + random.exponential(mean_life, born.size)
    moments = np.arange(seconds + 1)
    now = [np.searchsorted(np.sort(times), moments, side="right") for times in (leaked, born, died)]
    return (now[0] + now[1] - now[2]).astype(np.float64)


@pytest.mark.parametrize("seconds", [30, 60, 120])
@pytest.mark.parametrize("mean_life", [0.01, 1, 5])
@pytest.mark.parametrize("leaks", [0.5, 5, 50, 500])
@pytest.mark.thorough
def test_slope_interval_holds_a_leak_over_churn(leaks, mean_life, seconds):
    """How often, of 200: 93 % but for chance in so few runs."""
    held = 0
    for seed in range(200):
        interval = slope_interval(levels(seed, seconds, leaks, 500, mean_life))
        held += interval.low <= leaks <= interval.high
    assert held >= 0.905 * 200


def test_slope_interval_is_narrow_enough_to_tell_a_leak():
    """5 of 500 allocations a second leak, the others live for a second."""
    told = sum(slope_interval(levels(seed, 60, 5, 500, 1)).low > 0 for seed in range(100))
    assert told >= 75


def test_growth_that_slows_down_may_be_none():
    """Churn that lives for 20 s has filled up to 95 % only after a minute."""
    for seed in range(50):
        interval = slope_interval(levels(seed, 60, 5, 500, 20))
        assert interval.low <= 0
        assert interval.high > 5
