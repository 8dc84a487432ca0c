# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks with their source lines, as text."""

from __future__ import annotations

from collections.abc import Iterator

from kleaktrace.core.source_lines.source_lines import SourceLines


def frame_lines(frame: str, sources: SourceLines, inlined: str = "(inlined)") -> Iterator[str]:
    """A frame with its source behind it; before it, the functions that are inlined there, innermost first.

    inlined: the mark that these bear. What comes from the kernel and from files is as it came, and must be cleaned.
    """
    known = sources.of(frame)
    yield from (f"{one.function}  {one.place} {inlined}" for one in known[:-1])
    yield f"{frame}  {known[-1].place}" if known else frame
