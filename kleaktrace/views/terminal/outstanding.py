# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of outstanding allocations, live and at the end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from kleaktrace.core.grouping.group_labels import GroupBy, label
from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.rates.interval_rates import Rate
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import units
from kleaktrace.views.terminal.frames import frame_lines

_COLUMNS = "{:>10} {:>9} {:>11} {:>7} {:>7} {:>8}  "
"""Narrow, so that on 80 columns there is room for a name."""


def lines(
    groups: Sequence[AllocationGroup],
    rates: Sequence[Rate],
    now_ns: int,
    by: GroupBy,
    frames: int,
    sources: SourceLines = NO_SOURCE_LINES,
) -> Text:
    """Groups in their order; below each, if they are call stacks, `frames` of them at most, innermost first.

    Frames have lines of their own, so that they are whole on a narrow screen, too.
    """
    text = Text(no_wrap=True, overflow="ellipsis")
    headings = _COLUMNS.format("bytes", "count", "net/s", "alloc/s", "free/s", "oldest")
    text.append(headings + ("call stack" if by is GroupBy.STACK else str(by)), style="bold")
    for group, rate in zip(groups, rates, strict=True):
        text.append("\n")
        text.append(_figures(group, rate, now_ns), style="yellow" if rate.net_bytes > 0 else "")
        text.append(clean(_title(group, by)), style="cyan")
        text.append(" (reclaimable)" if group.reclaimable else "", style="dim")
        if by is GroupBy.STACK:
            _append_stack(text, group, frames, sources)
    if not groups:
        text.append("\n(nothing outstanding)", style="dim")
    return text


def _figures(group: AllocationGroup, rate: Rate, now_ns: int) -> str:
    return _COLUMNS.format(
        units.size(group.bytes),
        f"{group.count:,}",
        ("+" if rate.net_bytes > 0 else "") + units.size(rate.net_bytes),
        units.rate(rate.allocations),
        units.rate(rate.frees),
        units.seconds(max(now_ns - group.oldest_ns, 0) / 1e9),
    )


def _title(group: AllocationGroup, by: GroupBy) -> str:
    what = f"{group.cache}, {group.context}, {group.comm}"
    if by is GroupBy.STACK:
        return f"{label(group.stack, GroupBy.REQUESTER)}: {what}"
    return f"{group.label}: {what}" if by is GroupBy.REQUESTER else group.label


def _append_stack(text: Text, group: AllocationGroup, frames: int, sources: SourceLines) -> None:
    stack = group.stack.lines() or ["(no stack could be taken)"]
    for frame in stack[:frames]:
        for line in frame_lines(frame, sources):
            text.append(f"\n      {clean(line)}")
    if len(stack) > frames:
        text.append(f"\n      … {len(stack) - frames} more", style="dim")
