# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether counts over time go on as they began."""

from __future__ import annotations

import statistics

import numpy as np

from kleaktrace.core.arrays.types import F64

_STEADY = 0.85
"""Births become rarer if their rate falls below this, from one part of the time to the other, and not by chance."""

_HALVED = 0.5
"""They do in any case if it falls below this."""

_Z90 = 1.645


def without_bursts(counts: F64) -> F64:
    """The counts, none of them more than four times the usual."""
    return np.minimum(counts, max(3.0, 4 * statistics.median(counts.tolist())))


def rarer(before: F64, after: F64, ratio_of_times: float) -> bool:
    """Whether births have become rarer, by more than chance explains. `ratio_of_times`: of `before` to `after`.

    Chance is that of counts that vary as neighbours do (von Neumann, Ann. Math. Stat. 12, 1941), which a trend does
    not inflate.
    """
    earlier, later = float(before.sum()), float(after.sum())
    if (later + 1) * ratio_of_times < _HALVED * (earlier + ratio_of_times):
        return True
    steps = np.concatenate([np.diff(before) ** 2, np.diff(after) ** 2])
    parts = before.size + after.size
    variance = float(steps.sum()) / 2 / steps.size if steps.size else 0.0
    dispersion = max(1.0, variance / max((earlier + later) / parts, 1e-9))
    error = np.sqrt(dispersion * (1 / (earlier + 0.5) + 1 / (later + 0.5)))
    fall = -np.log((later + 0.5) / (earlier + 0.5) * ratio_of_times)
    return bool(fall > max(_Z90 * error, -np.log(_STEADY)))
