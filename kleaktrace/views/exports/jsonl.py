# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON, an object a line, for jq and for databases that take such: `type` says what each is.

The first line is the recording: the fields of the JSON document that are no lists of their own here. Lines of all
types but `stack` have the fields that `kleaktrace schema` describes; docs/exports.md describes `stack`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kleaktrace.core.tables.stack_rows import StackRow
from kleaktrace.views.documents.report import document
from kleaktrace.views.documents.source_lines import source_fields
from kleaktrace.views.exports.material import Material

_LISTS = {
    "coverage": "coverage",
    "suspects": "suspect",
    "leaks": "leak",
    "growing": "growing",
    "growing_kept": "growing_kept",
    "missing": "missing",
}
"""Fields of the document whose items get lines, and the types of these."""


def export(material: Material) -> str:
    """Return the lines, ASCII only."""
    return "".join(json.dumps(line) + "\n" for line in _lines(material))


def _lines(material: Material) -> Iterator[dict[str, Any]]:
    whole = document(material.report)
    apart = {"outstanding", "loss", *_LISTS}
    yield {"type": "recording", **{name: value for name, value in whole.items() if name not in apart}}
    yield {"type": "loss", **whole["loss"]}
    for row in material.rows:
        lines = source_fields(row.stack.lines(), material.report.source_lines)
        yield {"type": "stack", **_stack(row, material.report.now_ns), **lines}
    for name, kind in _LISTS.items():
        for item in whole[name]:
            yield {"type": kind, **item}


def _stack(row: StackRow, now_ns: int) -> dict[str, Any]:
    return {
        "key": row.key,
        "stack": row.stack.lines(),
        "caches": list(row.caches),
        "contexts": list(row.contexts),
        "outstanding": row.outstanding,
        "outstanding_bytes": row.outstanding_bytes,
        "oldest_s": None if row.oldest_ns is None else round(max(now_ns - row.oldest_ns, 0) / 1e9, 3),
        "allocations": row.allocations,
        "allocated_bytes": row.allocated_bytes,
        "frees": row.frees,
        "implied_frees": row.implied_frees,
        "verdict": str(row.verdict),
    }
