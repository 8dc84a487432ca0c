# SPDX-License-Identifier: GPL-2.0-or-later
"""95 % intervals for rates of what is neither independent nor normal.

The variance of a mean over time must count autocorrelation. Here the long-run variance is an average over the lowest
cosine frequencies, and the quantile is that of Student's t with as many degrees of freedom (Lazarus, Lewis,
Stock & Watson, "HAR inference: recommendations for practice", J. Bus. Econ. Stat. 36, 2018). It is honest both for
a leak (increments independent) and for churn (levels come back, increments cancel), where regression on the level
or plain block means fail the one or the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import F64
from kleaktrace.core.growth.survival import Z95

_FEWEST = 8
"""Increments that are needed to say anything."""


_CLEARLY = 2.5
"""Standard errors."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float


def student_t(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (Abramowitz & Stegun 26.7.5), within 1 % from 3 degrees on."""
    z = Z95
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def long_run_variance(series: F64) -> tuple[float, int]:
    """Return (variance of the sum of the series per element, degrees of freedom). Needs 8 elements or more."""
    count = series.size
    freedom = max(round(0.4 * count ** (2 / 3)), 3)
    phase = np.pi * np.outer(np.arange(1, freedom + 1), np.arange(count) + 0.5) / count
    weights = np.cos(phase) @ (series - series.mean()) * np.sqrt(2 / count)
    return float(np.mean(weights**2)), freedom


def mean_interval(series: F64) -> Interval:
    """Return the mean of a series of equally spaced increments. Fewer than 8 are infinitely uncertain."""
    if series.size < _FEWEST:
        return Interval(float(series.mean()) if series.size else 0.0, -np.inf, np.inf)
    variance, freedom = long_run_variance(series)
    half = student_t(freedom) * float(np.sqrt(variance / series.size))
    mean = float(series.mean())
    return Interval(mean, mean - half, mean + half)


def total_interval(parts: F64, squares: float) -> Interval:
    """Return the sum of what came in a time, `parts` being its sums over equal parts of that time (8 or more).

    `squares` is the sum of the squares of what came. For equal and independent arrivals this is the interval of Garwood
    (Biometrika 28, 1936) in Byar's form (Breslow & Day 1987); for unequal ones, so many equal ones are put
    in their place as have the same relative variance (as Fay & Feuer, Stat. Med. 16, 1997, do). Arrivals in bursts
    vary more from part to part than independent ones: then that variance is used.
    """
    total = float(parts.sum())
    if total <= 0:
        return Interval(0.0, 0.0, np.inf)
    variance, freedom = long_run_variance(parts)
    in_bursts = variance * parts.size
    quantile = student_t(freedom) if in_bursts > squares else Z95
    equal = total**2 / max(in_bursts, squares)
    low, high = (float(end[0]) for end in byar(np.array([equal]), quantile))
    return Interval(total, low * total / equal, high * total / equal)


def byar(counts: F64, z: float) -> tuple[F64, F64]:
    """Return the ends of the intervals of Poisson counts, which need not be whole; z: normal quantile."""
    some = np.maximum(counts, 1e-9)
    low = counts * np.maximum(1 - 1 / (9 * some) - z / (3 * np.sqrt(some)), 0.0) ** 3
    more = counts + 1
    return low, more * (1 - 1 / (9 * more) + z / (3 * np.sqrt(more))) ** 3


def settled(series: F64) -> F64:
    """Return the series without its start-up transient; all of it, if that fills more than its first third.

    Where to cut is where the mean of the rest has the smallest standard error (MSER: White, Simulation 69, 1997). A cut
    late in the series tells that it has not settled: its own trend then makes the interval wide.
    """
    cuts = np.arange(series.size // 2 + 1)
    left = series.size - cuts
    sums = np.cumsum(series[::-1])[::-1]
    squares = np.cumsum(series[::-1] ** 2)[::-1]
    if not series.size:
        return series
    error = (squares[cuts] - sums[cuts] ** 2 / left) / left.astype(np.float64) ** 2
    cut = int(np.argmin(error))
    return series[cut:] if cut <= series.size // 3 else series


def start_up(levels: F64) -> int:
    """Return how many steps from one sample to the next are the start-up transient that `slope_interval` leaves out."""
    steps = np.diff(levels)
    return steps.size - settled(steps).size


def slope_interval(levels: F64) -> Interval:
    """Return by how much a level grows from one equally spaced sample to the next, lasting growth above a churn.

    A start-up transient is left out where it can be told. Where the growth is still slowing down all of it may be one:
    then the interval reaches to zero, and to what the growth is in the last half.
    """
    steps = np.diff(levels)
    steady = settled(steps)
    whole = mean_interval(steady)
    if not _slows_down(steady):
        return whole
    recent = mean_interval(steady[steady.size // 2 :])
    return Interval(recent.estimate, min(whole.low, recent.low, 0.0), max(whole.high, recent.high))


def _slows_down(steps: F64) -> bool:
    """Whether the second half's mean differs from the first's, in units of how neighbours differ (von Neumann 1941)."""
    if steps.size < _FEWEST:
        return False
    half = steps.size // 2
    fall = abs(float(steps[:half].mean())) - abs(float(steps[half:].mean()))
    scatter = float(np.mean(np.diff(steps) ** 2)) / 2
    return fall > _CLEARLY * float(np.sqrt(scatter * (1 / half + 1 / (steps.size - half))))
