# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of `rates`."""

from __future__ import annotations

import math
from typing import Any

from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.rates.rate_table import RateTable
from kleaktrace.core.report import Report
from kleaktrace.views.documents import report as report_document


def document(table: RateTable, report: Report) -> dict[str, Any]:
    """The table as plain values; `ci95` is null while there are too few samples. Rates are per second."""
    whole = report_document.document(report)
    kept = ("schema", "kernel", "window", "coverage", "loss", "totals")
    return {
        **{name: whole[name] for name in kept},
        "by": str(table.by),
        "rates": [
            {
                "group": group.label,
                "allocations_per_s": round(group.allocations, 3),
                "frees_per_s": round(group.frees, 3),
                **_growth_fields(group.net_bytes),
                "outstanding": group.outstanding,
                "bytes": group.outstanding_bytes,
            }
            for group in table.groups
        ],
        "traced": _growth_fields(table.traced),
        "start_up": {"seconds": round(table.start_up.seconds, 3), "bytes": table.start_up.bytes},
        "reclaimable": _growth_fields(table.reclaimable),
        "machine": {name: _growth_fields(interval) for name, interval in table.machine.items()},
        "machine_whole": _growth_fields(table.machine_whole),
        "explained": _share_fields(table.explained),
        "unknown_frees_per_s": round(table.unknown_frees, 3),
    }


def _growth_fields(interval: Interval) -> dict[str, Any]:
    known = math.isfinite(interval.high - interval.low)
    return {
        "bytes_per_s": round(interval.estimate, 3),
        "ci95": [round(interval.low, 3), round(interval.high, 3)] if known else None,
    }


def _share_fields(share: Interval | None) -> dict[str, Any] | None:
    if share is None:
        return None
    known = math.isfinite(share.high - share.low)
    return {
        "share": round(share.estimate, 4),
        "ci95": [round(share.low, 4), round(share.high, 4)] if known else None,
    }
