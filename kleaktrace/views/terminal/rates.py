# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of rates, and what the machine says next to it."""

from __future__ import annotations

import math

from rich.text import Text

from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.rates.rate_table import GroupRate, RateTable
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import units

_COLUMNS = "{:>12} {:>26} {:>8} {:>8} {:>10} {:>10}  "
_NARROW_COLUMNS = "{0:>9} {1:>22} {5:>9}  "
"""Without what is freed and allocated, and without counts."""
_WIDE = 110


def lines(table: RateTable, frames: int, width: int) -> Text:
    """Groups in their order; of call stacks, `frames` frames at most, innermost first.

    Lines are not cut, but fewer columns stand before the names where `width` columns leave little room for these.
    """
    columns = _COLUMNS if width >= _WIDE else _NARROW_COLUMNS
    text = Text(no_wrap=True, overflow="ellipsis")
    lost = f", {table.lost:,} events LOST" if table.lost else ""
    text.append(f"rates by {table.by} over {units.seconds(table.seconds)}{lost}", "bold red" if lost else "bold")
    headings = columns.format("net/s", "95 % interval", "alloc/s", "free/s", "count", "bytes")
    text.append(f"\n{headings}{'call stack' if table.by is GroupBy.STACK else table.by}", style="bold")
    for group in table.groups:
        name, *outer = group.label.split("\n")
        text.append("\n")
        text.append(_figures(group, columns), style="yellow" if group.net_bytes.low > 0 else "")
        text.append(clean(name), style="cyan")
        for line in outer[: frames - 1]:
            text.append(f"\n      {clean(line)}")
        if len(outer) >= frames:
            text.append(f"\n      … {len(outer) - frames + 1} more", style="dim")
    if not table.groups:
        text.append("\n(nothing was allocated)", style="dim")
    for line in _machine(table):
        text.append(f"\n{line}")
    return text


def _figures(group: GroupRate, columns: str) -> str:
    return columns.format(
        growth(group.net_bytes.estimate),
        _interval(group.net_bytes),
        units.rate(group.allocations),
        units.rate(group.frees),
        f"{group.outstanding:,}",
        units.size(group.outstanding_bytes),
    )


def growth(per_second: float) -> str:
    """Bytes a second, with a sign if there are any: +1.2 KiB."""
    return ("+" if round(per_second) > 0 else "") + units.size(per_second)


def _interval(interval: Interval) -> str:
    if not math.isfinite(interval.high - interval.low):
        return "not known yet"
    return f"{growth(interval.low)} to {growth(interval.high)}"


def _share(share: Interval) -> str:
    if not math.isfinite(share.high - share.low):
        return "an unknown share"
    return f"{share.estimate * 100:.0f} % (95 %: {share.low * 100:.0f} to {share.high * 100:.0f})"


def _machine(table: RateTable) -> list[str]:
    said = ", ".join(f"{name} {growth(interval.estimate)}/s" for name, interval in table.machine.items())
    start = table.start_up
    found = [
        f"all that was traced: {growth(table.traced.estimate)}/s (95 %: {_interval(table.traced)})",
        *([f"  but at first, for {units.seconds(start.seconds)}: {growth(start.bytes)} in all"] if start.bytes else []),
        f"  of it reclaimable: {growth(table.reclaimable.estimate)}/s (95 %: {_interval(table.reclaimable)})",
        f"the machine itself:  {said}",
    ]
    if table.explained is None:
        found.append("explained: the machine's slab, vmalloc and per-CPU memory does not clearly grow")
    else:
        whole = table.machine_whole
        found.append(
            f"explained: {_share(table.explained)} of the growth of the machine's slab, vmalloc and per-CPU memory, "
            f"{growth(whole.estimate)}/s (95 %: {_interval(whole)})"
        )
        if table.explained.low > 1:
            found.append("  above 100 %: the allocators had room, or give back what was allocated before tracing began")
    if table.unknown_frees >= 1:
        found.append(
            f"not in these rates: {units.rate(table.unknown_frees)} frees/s of what was allocated before tracing began"
        )
    return found
