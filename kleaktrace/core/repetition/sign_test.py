# SPDX-License-Identifier: GPL-2.0-or-later
"""What a call stack leaves behind, round by round: a leak does in every round, to the end; a cache levels off.

The test is the sign test (Dixon & Mood, J. Am. Stat. Assoc. 41, 1946) on the rounds after a warm-up: each either left
something behind or did not. What keeps memory within bounds leaves some in a third of the rounds at most, in the long
run: caches that fill do so in the first ones, pools that double in one of two, of four, of eight, and what a later
round frees is there in the last ones only. That so many of the rounds grew, by the binomial distribution, must be less
likely than `GONE` or `ANY`; all but one in ten must have, the last among them; and they must not leave less and less
(`trend.rarer`). A cache that is not full by the last round looks the same: only more rounds tell.
Error rates: tests/unit/core/repetition/test_error_rates.py measures them on simulated kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import comb

import numpy as np
import numpy.typing as npt

from kleaktrace.core.growth.trend import rarer

Counts = npt.NDArray[np.int64]

_BOUNDED = 1 / 3
"""In so large a share of the rounds something that keeps within bounds may leave something behind."""

GONE = 0.005
"""For what was asked for through a module that is gone when its round ends: with six rounds, all after the first."""

ANY = 0.0005
"""For what core code keeps, which has caches: with eight rounds, all after the first."""

_EXCEPTIONS = 10
"""One round in so many may leave nothing behind: a leak on a path that is mostly taken."""

_WARM_UP = 10
"""One round in so many is left out at the beginning, one at least."""

ENOUGH = 5
"""So many rounds after the warm-up tell what levels off from what does not."""


class Course(StrEnum):
    """How what a stack leaves behind goes on from round to round."""

    GROWS = "grows"
    """Some more in each round, to the end."""
    LEVELS_OFF = "levels off"
    """No more in the later half of the rounds; or in a single one only, and none in the last third."""
    PENDING = "pending"
    """In the last round only: what a round leaves behind is freed by the next."""
    UNCLEAR = "unclear"
    """None of these, or too few rounds."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """What the rounds say of one stack.

    total: rounds after the warm-up. grew_in: of these, rounds that left something behind. per_round: how many objects,
    the median over those rounds. chance: that something that keeps within bounds would look like this.
    """

    course: Course
    total: int
    grew_in: int
    per_round: float
    chance: float


def warm_up(rounds: int) -> int:
    """How many of so many rounds are left out at the beginning."""
    return min(max(1, rounds // _WARM_UP), rounds)


def repetition(left: Counts, doubtful: int = 0, needed: float = ANY) -> Repetition:
    """Judge what each round left behind, in their order.

    needed: how unlikely it must be that it keeps within bounds, `GONE` or `ANY`. doubtful: so many of these objects may
    have been freed unseen. They count as the fewest that would clear rounds.
    """
    warm = warm_up(left.size)
    later = left[warm:]
    certain = _without(later, doubtful) if doubtful else later
    grew = np.count_nonzero(certain)
    per_round = float(np.median(later[later > 0])) if later.any() else 0.0
    chance = at_least(int(grew), later.size, _BOUNDED)
    return Repetition(_course(left, certain, chance <= needed), later.size, int(grew), per_round, chance)


def _course(left: Counts, later: Counts, unlikely: bool) -> Course:
    grew = np.count_nonzero(later)
    if unlikely and grew >= later.size - later.size // _EXCEPTIONS and later[-1] and not _declines(later):
        return Course.GROWS
    if later.size < ENOUGH:
        return Course.UNCLEAR
    rounds = np.flatnonzero(left)
    if rounds.size and rounds[0] >= left.size - 1:
        return Course.PENDING
    quiet_from = left.size // 2 if rounds.size > 1 else left.size - left.size // 3
    if not left[quiet_from:].any():
        return Course.LEVELS_OFF
    return Course.UNCLEAR


def _declines(later: Counts) -> bool:
    """Whether the second half left less behind. In the last rounds there may be more, which is still to be freed."""
    half = later.size // 2
    usual = np.minimum(later, max(int(np.median(later)), 1)).astype(np.float64)
    return rarer(usual[:half], usual[later.size - half :], 1.0)


def _without(left: Counts, doubtful: int) -> Counts:
    """What remains certain if so many were freed after all: the rounds that left the fewest are cleared first."""
    order = np.argsort(left, kind="stable")
    cleared = np.minimum(np.maximum(doubtful - (np.cumsum(left[order]) - left[order]), 0), left[order])
    certain = left.copy()
    certain[order] -= cleared
    return certain


def at_least(successes: int, trials: int, chance: float) -> float:
    """The probability of so many successes or more: the upper tail of the binomial distribution."""
    return sum(comb(trials, n) * chance**n * (1 - chance) ** (trials - n) for n in range(successes, trials + 1))
