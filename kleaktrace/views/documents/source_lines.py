# SPDX-License-Identifier: GPL-2.0-or-later
"""Source lines of call stacks, in JSON documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines


def source_fields(stack: Iterable[str], sources: SourceLines) -> dict[str, Any]:
    """For each frame what is written there, innermost first; no field if nothing is known of any of them."""
    found = [sources.of(frame) for frame in stack] if sources else []
    if not any(found):
        return {}
    return {"source_lines": [[_fields(one) for one in lines] for lines in found]}


def _fields(one: SourceLine) -> dict[str, Any]:
    return {"function": one.function, "file": one.file, "line": one.line, "inlined": one.inlined}
