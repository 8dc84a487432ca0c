# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of `inject`: that of a report, with the runs, and what each failure is to blame for."""

from __future__ import annotations

from typing import Any

from kleaktrace.core.evidence.injected_runs import FailedAllocation, Walk
from kleaktrace.core.injection.error_paths import ErrorPath, RunResult
from kleaktrace.core.injection.report import InjectionReport
from kleaktrace.core.leaked_objects.leaks import stack_key
from kleaktrace.views.documents.report import document as report_document
from kleaktrace.views.documents.report import suspect_fields


def document(found: InjectionReport) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        **report_document(found.report),
        "walk": _walk(found.walk),
        "error_paths": [_path(path) for path in found.paths],
        "injections": [_injection(result, found) for result in found.attribution.results],
    }


def _walk(walk: Walk) -> dict[str, Any]:
    return {
        "means": walk.means,
        "planned": walk.planned,
        "failed": len(walk.failures),
        "stopped": walk.stopped or None,
        "plain_s": round(walk.plain_s, 3),
        "per_failure_s": None if walk.per_failure_s is None else round(walk.per_failure_s, 3),
    }


def _path(path: ErrorPath) -> dict[str, Any]:
    return {"failed": _failed(path.failed), "runs": path.numbers, "outcome": str(path.outcome), "said": path.said}


def _injection(result: RunResult, found: InjectionReport) -> dict[str, Any]:
    run, walk = result.run, found.walk
    return {
        "n": run.number,
        "failed": None if run.failed is None else _failed(run.failed),
        "status": run.status,
        "ended": str(run.ended),
        "outcome": str(found.attribution.outcome_of(run)),
        "seconds": round(run.seconds, 3),
        "start_s": round((run.start_ns - walk.runs[0].start_ns) / 1e9, 3),
        "left_unfit": run.left_unfit,
        "again": run.again,
        "said": list(run.said),
        "suspects": [suspect_fields(suspect) for suspect in result.suspects],
    }


def _failed(failed: FailedAllocation) -> dict[str, Any]:
    return {
        "stack": list(failed.stack),
        "key": stack_key(failed.stack),
        "bytes": failed.bytes,
        "asked": str(failed.asked),
        "comm": failed.comm,
        "pid": failed.pid,
    }
