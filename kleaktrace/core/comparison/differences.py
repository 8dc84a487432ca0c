# SPDX-License-Identifier: GPL-2.0-or-later
"""Differences of counts over two windows, with intervals that hold for all of them at once.

- One count: as many events as have the same relative variance (as core/growth/intervals.py does), with Byar's form of
  Garwood's interval. What one event is worth is taken from both windows, and the larger one counts: of a stack that has
  left nothing behind in one window, only the other can tell how it comes.
- A difference: the two intervals put together by MOVER (Zou & Donner, Stat. Med. 27, 2008), which needs them neither
  normal nor symmetric.
- Many differences: each gets so high a confidence that the chance of a single false one is 5 % for all together
  (Bonferroni). A thousand intervals of 95 % would make fifty stacks news by chance.
- Windows of different lengths: a leak leaves more the longer it goes on, a cache does not. What one and the same
  process leaves behind is in between. So both are reckoned, by time and as it is, and the interval spans both: what is
  outside it has changed whichever it is.
- Lost events: as many frees as were lost may be missing from what any one stack has left, and as many allocations
  may be missing from its count.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from kleaktrace.core.arrays.types import F64, Mask
from kleaktrace.core.comparison.arrivals import Counts
from kleaktrace.core.growth.intervals import byar

_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Lost:
    """What may be missing from the count of a stack, in its unit: frees, and allocations."""

    frees: F64
    allocations: F64


@dataclass(frozen=True, slots=True)
class Intervals:
    """Estimates with the ends of their intervals, in parallel."""

    estimates: F64
    lows: F64
    highs: F64

    @property
    def told_apart(self) -> Mask:
        """Which are not 0, whatever chance has done."""
        return (self.lows > 0) | (self.highs < 0)


def quantile(count: int) -> float:
    """How many standard errors an interval reaches to each side, where so many are to hold together."""
    return NormalDist().inv_cdf(1 - _CHANCE / 2 / max(count, 1))


def differences(before: Counts, after: Counts, scale: float, z: float) -> Intervals:
    """`after` less `before`, for a window as long as that of `after`, which is `scale` times the other's length."""
    event = np.maximum(_event(before), _event(after))
    event = np.where(event > 0, event, 1.0)
    old, new = _interval(before, event, z), _interval(after, event, z)
    by_time, as_it_is = _difference(old, new, scale), _difference(old, new, 1.0)
    return Intervals(
        by_time.estimates, np.minimum(by_time.lows, as_it_is.lows), np.maximum(by_time.highs, as_it_is.highs)
    )


def widened(found: Intervals, before: Lost, after: Lost, scale: float) -> Intervals:
    """The same, if as much was lost."""
    most = max(scale, 1.0)
    return Intervals(
        found.estimates,
        found.lows - after.frees - most * before.allocations,
        found.highs + after.allocations + most * before.frees,
    )


def _event(counts: Counts) -> F64:
    """How much comes at once."""
    return np.divide(counts.variances, counts.totals, out=np.zeros_like(counts.totals), where=counts.totals > 0)


def _interval(counts: Counts, event: F64, z: float) -> Intervals:
    low, high = byar(counts.totals / event, z)
    return Intervals(counts.totals, low * event, high * event)


def _difference(old: Intervals, new: Intervals, scale: float) -> Intervals:
    estimates = new.estimates - scale * old.estimates
    down = np.hypot(new.estimates - new.lows, scale * (old.highs - old.estimates))
    up = np.hypot(new.highs - new.estimates, scale * (old.estimates - old.lows))
    return Intervals(estimates, estimates - down, estimates + up)
