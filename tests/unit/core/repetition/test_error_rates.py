# SPDX-License-Identifier: GPL-2.0-or-later
"""How often the rounds convict what keeps within bounds, and miss what leaks: measured on simulated kernels."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_rounds import (
    Keeper,
    cache_of_identities,
    freed_later,
    leak_beside_a_cache,
    leak_whose_last_are_pending,
    now_and_then,
    per_cpu_lists,
    pool_that_doubles,
    pool_that_fills,
    replaces_any,
    replaces_the_oldest,
    steady_leak,
    varying_leak,
)

from kleaktrace.core.repetition.sign_test import ANY, GONE, Course, repetition

TRIALS = 400
ROUNDS = {6: GONE, 8: ANY, 10: ANY, 20: ANY, 40: ANY}


def convicted(keeper: Keeper, rounds: int) -> float:
    random = np.random.default_rng(rounds)
    found = [repetition(keeper(random, rounds), needed=ROUNDS[rounds]).course for _ in range(TRIALS)]
    return sum(course is Course.GROWS for course in found) / TRIALS


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("keeper", [pool_that_doubles, per_cpu_lists, freed_later, now_and_then])
@pytest.mark.thorough
def test_what_keeps_within_bounds_is_not_convicted(keeper: Keeper, rounds: int) -> None:
    assert convicted(keeper, rounds) <= 0.01


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(
    "cache", [cache_of_identities, pool_that_fills, replaces_the_oldest, replaces_any], ids=lambda cache: cache.__name__
)
def test_a_cache_that_was_full_in_half_of_the_rounds_is_not_convicted(cache: object, rounds: int) -> None:
    """One that is never full can't be told from a leak, by anyone: the report's words say so."""

    def full_by_half(random: np.random.Generator, count: int) -> np.ndarray:
        return cache(random, count, int(random.integers(1, count // 2 + 1)))  # type: ignore[operator]

    assert convicted(full_by_half, rounds) <= 0.01


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("leak", [steady_leak, leak_whose_last_are_pending])
def test_a_steady_leak_is_always_convicted(leak: Keeper, rounds: int) -> None:
    assert convicted(leak, rounds) == 1


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("leak", [varying_leak, leak_beside_a_cache])
def test_an_uneven_leak_is_convicted_mostly(leak: Keeper, rounds: int) -> None:
    assert convicted(leak, rounds) >= 0.9
