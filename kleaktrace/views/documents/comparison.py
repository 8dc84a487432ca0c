# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of `diff`."""

from __future__ import annotations

from typing import Any

from kleaktrace.core.comparison.comparison import Amount, Change, Comparison, Side
from kleaktrace.core.comparison.thresholds import Conclusion
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.views.documents.report import SCHEMA


def document(comparison: Comparison, conclusion: Conclusion) -> dict[str, Any]:
    """The comparison as plain values."""
    return {
        "schema": SCHEMA,
        "by": str(comparison.by),
        "unit": comparison.unit,
        "before": _side(comparison.before),
        "after": _side(comparison.after),
        "compared": comparison.compared,
        "within_interval": comparison.within,
        "changes": [_change(change) for change in comparison.changes],
        "kept": [_change(change) for change in comparison.kept],
        "hidden_by_loss": [_change(change) for change in comparison.hidden],
        "not_comparable": list(comparison.not_comparable),
        "failures": list(conclusion.failures),
        "unanswered": list(conclusion.unanswered),
        "outcome": str(conclusion.outcome),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "kernel": {"release": side.kernel.release, "arch": side.kernel.arch},
        "window": {"start": side.started.isoformat(), "seconds": round(side.seconds, 3)},
        "units": round(side.units, 6),
        "verdict": side.verdict,
        "lost_events": side.lost,
        "gaps": list(side.gaps),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "key": change.key,
        "stack": list(change.lines),
        "change": str(change.kind),
        "because": [str(why) for why in change.because],
        "new_leak": change.is_new_leak,
        "before": _amount(change.before),
        "after": _amount(change.after),
        "objects": _interval(change.objects),
        "bytes": _interval(change.bytes),
        "bytes_per_unit": _interval(change.bytes_per_unit),
        "cache": change.cache,
        "context": change.context,
        "comm": change.comm,
        "kept": change.kept,
        "held": change.held,
    }


def _amount(amount: Amount) -> dict[str, Any]:
    return {
        "objects": amount.objects,
        "bytes": amount.bytes,
        "allocations": amount.allocations,
        "verdict": None if amount.verdict is None else str(amount.verdict),
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {"estimate": round(interval.estimate, 3), "ci95": [round(interval.low, 3), round(interval.high, 3)]}
