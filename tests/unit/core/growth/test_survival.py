# SPDX-License-Identifier: GPL-2.0-or-later
"""The survival curve: against the product-limit written out, at its edges, and how well its interval holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleaktrace.core.growth.survival import BIN_ENDS_NS, plateaus, survival_curves
from kleaktrace.core.ledger.stack_counters import LIFETIME_BINS, bin_range, lifetime_bins

SECOND = 1_000_000_000
A_SECOND = int(lifetime_bins(np.array([SECOND], np.uint64))[0])


def counts(**by_bin: int) -> np.ndarray:
    """One stack's counts, bins given as quarter octaves above a second: `at_4=…`."""
    made = np.zeros((1, LIFETIME_BINS))
    for name, count in by_bin.items():
        made[0, A_SECOND + int(name.removeprefix("at_"))] = count
    return made


def histogram(seconds: np.ndarray) -> np.ndarray:
    bins = lifetime_bins((seconds * SECOND).astype(np.uint64)).astype(np.intp)
    return np.bincount(bins, minlength=LIFETIME_BINS)[None, :].astype(np.float64)


def observed(lives: np.ndarray, seconds: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lifetimes ended and running after so many seconds, of births spread evenly."""
    ages = random.uniform(0, seconds, lives.size)
    return histogram(lives[lives <= ages]), histogram(ages[lives > ages])


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 40)), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_curve_equals_the_product_limit_written_out(by_bin):
    ended, running = np.zeros((1, LIFETIME_BINS)), np.zeros((1, LIFETIME_BINS))
    for number, (deaths, censored) in enumerate(by_bin):
        ended[0, number], running[0, number] = deaths, censored
    curves = survival_curves(ended, running)
    alive, survival, greenwood = sum(d + c for d, c in by_bin), 1.0, 0.0
    for number, (deaths, censored) in enumerate(by_bin):
        at_risk = alive - censored / 2
        if deaths:
            survival *= 1 - deaths / at_risk
            greenwood += deaths / (at_risk * (at_risk - deaths)) if at_risk > deaths else np.inf
        alive -= deaths + censored
        assert curves.survival[0, number] == pytest.approx(survival, abs=1e-12)
        assert curves.relative_variance[0, number] == pytest.approx(greenwood)
    assert 0 <= curves.survival.min() <= curves.survival.max() <= 1
    assert (np.diff(curves.survival[0]) <= 1e-12).all()


def test_without_censoring_the_curve_is_the_share_that_lives_longer():
    lives = np.random.default_rng(1).exponential(3, 1000)
    curves = survival_curves(histogram(lives), np.zeros((1, LIFETIME_BINS)))
    for number in range(A_SECOND - 8, A_SECOND + 12):
        assert curves.survival[0, number] == pytest.approx(np.mean(lives >= bin_range(number)[1] / SECOND), abs=1e-9)


def test_ages_of_the_living_pull_the_curve_up():
    ended = counts(at_0=50)
    alone = survival_curves(ended, counts())
    beside_the_living = survival_curves(ended, counts(at_12=50))
    assert alone.survival[0, -1] == 0
    assert beside_the_living.survival[0, -1] == pytest.approx(0.5)


def test_a_stack_that_nothing_is_known_of_is_not_on_a_plateau():
    flat = plateaus(survival_curves(counts(), counts()))
    assert not flat.reached[0]
    assert (flat.low[0], flat.high[0]) == (0.025, 1.0)


def test_deaths_early_and_none_later_are_a_plateau():
    flat = plateaus(survival_curves(counts(at_0=300), counts(at_14=50, at_15=50)))
    assert flat.reached[0]
    assert flat.fraction[0] == pytest.approx(0.25)
    assert flat.low[0] < 0.25 < flat.high[0]
    assert flat.from_ns[0] == BIN_ENDS_NS[A_SECOND]


def test_nothing_freed_at_all_is_a_plateau_from_the_start():
    flat = plateaus(survival_curves(counts(), counts(at_12=20, at_16=20)))
    assert flat.reached[0]
    assert (flat.fraction[0], flat.high[0]) == (1.0, 1.0)
    assert flat.low[0] == pytest.approx(0.025 ** (1 / 40))
    assert flat.from_ns[0] <= 2


@pytest.mark.parametrize(
    ("ended", "running"),
    [
        pytest.param(counts(at_12=20, at_14=20, at_16=20), counts(at_16=40), id="still dying"),
        pytest.param(counts(at_0=1000), counts(at_12=3), id="too few survivors"),
        pytest.param(counts(at_0=10), counts(at_4=4, at_16=5), id="too few entered the last octave"),
        pytest.param(counts(at_16=90), counts(at_15=60), id="all died at the oldest age"),
    ],
)
def test_not_a_plateau(ended, running):
    assert not plateaus(survival_curves(ended, running)).reached[0]


def test_one_death_late_does_not_hide_a_plateau():
    running = counts(at_12=10, at_16=10)
    assert plateaus(survival_curves(counts(at_0=100, at_15=1), running)).reached[0]
    assert not plateaus(survival_curves(counts(at_0=100, at_15=3), running)).reached[0]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_interval_of_the_leak_fraction_holds_the_truth(share):
    held, reached = 0, 0
    for seed in range(200):
        random = np.random.default_rng([seed, 2])
        lives = np.where(random.uniform(size=2000) < share, np.inf, random.exponential(1, 2000))
        flat = plateaus(survival_curves(*observed(lives, 60, random)))
        reached += int(flat.reached[0])
        held += int(flat.low[0] <= share <= flat.high[0])
    assert reached >= 190
    assert held >= 182  # 93 % but for chance in so few runs


@pytest.mark.parametrize("mean", [5, 20, 60, 120])
def test_what_is_freed_in_the_end_has_no_plateau(mean):
    reached = 0
    for seed in range(100):
        random = np.random.default_rng([seed, 3])
        flat = plateaus(survival_curves(*observed(random.exponential(mean, 2000), 60, random)))
        reached += int(flat.reached[0])
    assert reached == 0


def test_stacks_do_not_touch_each_other():
    random = np.random.default_rng(4)
    ended, running = random.poisson(2, (6, LIFETIME_BINS)) * 1.0, random.poisson(2, (6, LIFETIME_BINS)) * 1.0
    together = survival_curves(ended, running)
    for number in range(6):
        alone = survival_curves(ended[number : number + 1], running[number : number + 1])
        np.testing.assert_array_equal(alone.survival[0], together.survival[number])
