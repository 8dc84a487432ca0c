# SPDX-License-Identifier: GPL-2.0-or-later
"""Source lines of call stacks, in JSON documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kleaktrace.core.source_lines.source_lines import SourceLines


def source_fields(stack: Iterable[str], sources: SourceLines) -> dict[str, Any]:
    """For each frame what is written there, innermost first; no field if nothing is known of any of them."""
    found = [sources.of(frame) for frame in stack] if sources else []
    if not any(found):
        return {}
    return {"source_lines": [[one._asdict() for one in lines] for lines in found]}
