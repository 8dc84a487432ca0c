# SPDX-License-Identifier: GPL-2.0-or-later
"""How long allocations live when many still do: survival curves of right-censored lifetimes.

What is outstanding has a lifetime too, it is only not over: it is censored at its age. The share that outlives an
age is estimated by the product-limit (Kaplan & Meier, J. Am. Stat. Assoc. 53, 1958), here by bins of a quarter
octave, those censored within a bin being at risk for half of it (the actuarial form: Cutler & Ederer, J. Chronic
Dis. 8, 1958). Its variance is Greenwood's (The natural duration of cancer, 1926).

A leak shows as a plateau: the curve stops falling at a level above zero. Whether it has really stopped is the
question of sufficient follow-up (Maller & Zhou, Biometrika 79, 1992): here, over the last octave of age that enough
allocations have reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import F64, Mask
from kleaktrace.core.ledger.stack_counters import LIFETIME_BINS, bin_range

Z95 = 1.959964

BIN_ENDS_NS: F64 = np.array([bin_range(number)[1] for number in range(LIFETIME_BINS)])
"""Age (ns) at which each bin ends."""

_OCTAVE = 4
"""Bins of a doubling of age."""

_ENOUGH_AT_RISK = 5
"""The curve is followed as far as so many allocations have been seen at that age."""

_ENOUGH_FOLLOWED = 10
"""So many must have entered the last octave: else that none of them died there says little."""

_STILL_FALLING = 0.05
"""A curve that loses more than this share over its last octave is not on a plateau."""

_NEARLY_THERE = 1.1
"""The plateau begins where the curve is down to this multiple of its level."""


@dataclass(frozen=True, slots=True)
class SurvivalCurves:
    """Survival of each stack (rows) at the end of each lifetime bin (columns)."""

    survival: F64
    """Share that outlives the bin, 0 … 1."""
    relative_variance: F64
    """Greenwood's sum: the variance of survival / survival²; infinite where all have died."""
    at_risk: F64
    """How many were watched through the bin, censored ones for half."""


@dataclass(frozen=True, slots=True)
class Plateaus:
    """Where the curves end, one element a stack."""

    reached: Mask
    """Whether the curve has stopped falling, above zero by more than chance and than it still lost lately."""
    fraction: F64
    """Level of the plateau: the share that never comes back."""
    low: F64
    high: F64
    """95 % interval of the fraction, log(-log)-transformed (Kalbfleisch & Prentice 1980)."""
    from_ns: F64
    """Age at which the plateau begins: what is older is on it."""


def survival_curves(ended: F64, running: F64) -> SurvivalCurves:
    """Estimate survival from counts by stack (rows) and lifetime bin: lifetimes ended, and ages reached so far."""
    at_risk = np.flip(np.cumsum(np.flip(ended + running, 1), 1), 1) - running / 2
    dying = ended > 0
    hazard = np.divide(ended, at_risk, out=np.zeros_like(at_risk), where=dying)
    surviving = at_risk - ended
    term = np.full_like(at_risk, np.inf)
    np.divide(hazard, surviving, out=term, where=surviving > 0)
    term[~dying] = 0.0
    return SurvivalCurves(np.cumprod(1 - hazard, 1), np.cumsum(term, 1), at_risk)


def plateaus(curves: SurvivalCurves) -> Plateaus:
    """Find out which curves have come to rest above zero, and at what level."""
    each = np.arange(curves.survival.shape[0])
    last = np.maximum(np.count_nonzero(curves.at_risk >= _ENOUGH_AT_RISK, axis=1) - 1, _OCTAVE)
    level, earlier = curves.survival[each, last], curves.survival[each, last - _OCTAVE]
    entered = curves.at_risk[each, last - _OCTAVE + 1]
    # One death is allowed: of ten, it is already more than the share.
    tolerated = np.maximum(_STILL_FALLING, 1 / np.maximum(entered, 1)) * earlier * (1 + 1e-9)
    at_rest = (entered >= _ENOUGH_FOLLOWED) & (earlier - level <= tolerated)
    relative_error = np.sqrt(curves.relative_variance[each, last])
    lowest = np.where(level > 0, level * (1 - Z95 * np.minimum(relative_error, 1e6)) - (earlier - level), 0.0)
    low, high = _interval(level, relative_error, curves.at_risk[:, 0])
    start = np.argmax(curves.survival <= level[:, None] * _NEARLY_THERE, axis=1)
    return Plateaus(at_rest & (lowest > 0), level, low, high, BIN_ENDS_NS[start])


def _interval(level: F64, relative_error: F64, count: F64) -> tuple[F64, F64]:
    """Bounds of survival; where none or all died, those of Clopper & Pearson (1934)."""
    inside = (level > 0) & (level < 1)
    log = np.log(np.where(inside, level, 0.5))
    spread = np.exp(Z95 * np.where(inside, relative_error, 0.0) / np.abs(log))
    rest = 0.025 ** (1 / np.maximum(count, 1))
    low = np.where(inside, np.exp(log * spread), np.where(level > 0, rest, 0.0))
    high = np.where(inside, np.exp(log / spread), np.where(level > 0, 1.0, 1 - rest))
    return low, high
