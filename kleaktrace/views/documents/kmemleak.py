# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of a kmemleak text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleaktrace.core.kmemleak.report_parser import KmemleakText, Problem, Suspect


def document(text: KmemleakText, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the JSON document of `explain --json` and `kmemleak show --json`."""
    return {
        "objects": [_object(s) for s in text.objects],
        "problems": [{"line": p.line, "what": p.what} for p in problems],
    }


def _object(suspect: Suspect) -> dict[str, Any]:
    return {
        "address": f"0x{suspect.address:08x}",
        "size": suspect.size,
        "kind": str(suspect.kind),
        "comm": suspect.comm,
        "pid": suspect.pid,
        "jiffies": suspect.jiffies,
        "age_s": suspect.age_s,
        "crc": suspect.crc,
        "frames": [str(frame) for frame in suspect.frames],
        "truncated": suspect.truncated,
        "more": suspect.more,
        "line": suspect.line,
    }
