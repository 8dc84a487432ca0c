# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines above the table: totals, what was lost or can't be seen, and what is shown."""

from __future__ import annotations

from rich.text import Text

from kleaktrace.core.live_table.arrangement import Arrangement
from kleaktrace.core.live_table.live_table import Asked
from kleaktrace.core.symbols.call_stacks import requester_words
from kleaktrace.terminal import clean
from kleaktrace.views.screen import short_units
from kleaktrace.views.screen.feed import Seen
from kleaktrace.views.screen.looker import Wanted
from kleaktrace.views.terminal import units


def totals_line(seen: Seen) -> Text:
    """How long, how much."""
    totals = seen.totals
    held = f"{totals.outstanding:,} outstanding ({units.size(totals.outstanding_bytes)})"
    return Text(
        f"{units.seconds(seen.seconds)}: {units.count(totals.allocations, 'allocation')}, "
        f"{units.count(totals.frees, 'free')}, {held}",
        style="bold",
        no_wrap=True,
        overflow="ellipsis",
    )


def trust_line(seen: Seen) -> Text:
    """What was lost, and what this kernel does not show."""
    lost = [units.count(seen.loss.events, "event")] if seen.loss.events else []
    lost += [units.count(seen.loss.stacks, "stack")] if seen.loss.stacks else []
    lost += [units.count(seen.loss.names, "name")] if seen.loss.names else []
    text = Text()
    text.append(f"LOST: {', '.join(lost)}" if lost else "lost: nothing", style="bold red" if lost else "")
    text.append("; ")
    if seen.unseen:
        text.append(f"not seen here: {', '.join(seen.unseen)}", style="yellow")
    else:
        text.append("all kinds of allocations and frees are seen")
    return text


def growing_line(seen: Seen) -> Text:
    """Who keeps growing, fastest first; empty: nobody who does not keep it on purpose."""
    growing = [one for one in seen.growing if not one.kept]
    words = [f"{requester_words(one.lines())} +{units.size(one.growing.bytes_per_s)}/s" for one in growing]
    text = clean(f"growing: {', '.join(words)}") if words else ""
    return Text(text, style="yellow", no_wrap=True, overflow="ellipsis")


def wanted_line(wanted: Wanted, rows: int, now_ns: int) -> Text:
    """What is shown, and what is hidden."""
    words = [units.count(rows, "row"), *_hiding(wanted.asked, wanted.arrangement, now_ns)]
    text = Text("PAUSED, " if wanted.paused else "", style="bold" if wanted.paused else "")
    text.append(clean(", ".join(words)))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _hiding(asked: Asked, arrangement: Arrangement, now_ns: int) -> list[str]:
    words = []
    if asked.since_ns is not None:
        words.append(f"since the mark {short_units.age((now_ns - asked.since_ns) / 1e9)} ago")
    if arrangement.contains:
        words.append(f"with {arrangement.contains!r}")
    if asked.unreclaimable:
        words.append("none reclaimable")
    return words


def nothing_text(wanted: Wanted) -> str:
    """What is said where there is no row."""
    if wanted.arrangement.contains:
        return f"(no row contains {clean(repr(wanted.arrangement.contains))}: Esc shows all)"
    if wanted.asked.since_ns is not None:
        return "(nothing since the mark is outstanding: M shows all again)"
    if wanted.asked.unreclaimable:
        return "(nothing that cannot be reclaimed is outstanding: u shows all)"
    if wanted.asked.older_s:
        return "(nothing is so old yet: [ shows younger ones)"
    return "(nothing outstanding)"
