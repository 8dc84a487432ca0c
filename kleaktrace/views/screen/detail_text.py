# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pane below the table says of the chosen row: verdict and reason, siblings, call stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.lifetimes import Lifetimes
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.ledger.stack_counters import bin_range
from kleaktrace.core.live_table.group_details import GroupDetails
from kleaktrace.core.live_table.live_table import TableRow
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.terminal import clean
from kleaktrace.views.screen.bars import BLOCKS, histogram
from kleaktrace.views.screen.row_line import title
from kleaktrace.views.terminal import units
from kleaktrace.views.terminal.frames import frame_lines
from kleaktrace.views.terminal.growing import words as growing_words
from kleaktrace.views.terminal.suspect_words import sibling_words
from kleaktrace.views.verdict_styles import VERDICT_STYLES

_REASONS = 3
_SITES = 4
_BARS = 24


def detail_text(
    row: TableRow,
    details: GroupDetails,
    now_ns: int,
    growing: Sequence[GrowingStack] = (),
    sources: SourceLines = NO_SOURCE_LINES,
    bars: str = BLOCKS,
) -> Text:
    """All of it; nothing in it is taken for markup, and nothing can move the cursor.

    growing: this call stack, if it is one of those that keep growing.
    """
    text = Text(f"{title(row)}\n", style="", no_wrap=False)
    text.stylize("bold")
    age = units.seconds(max(now_ns - row.oldest_ns, 0) / 1e9)
    growth = (
        "" if row.net_bytes is None else f", {'+' if row.net_bytes > 0 else ''}{units.size(row.net_bytes)}/s lately"
    )
    text.append(f"{row.count:,} outstanding ({units.size(row.bytes)}), the oldest {age} old{growth}\n")
    for words, style in verdict_lines(details.suspects, details.scanned):
        text.append(f"{clean(words)}\n", style=style)
    for one in growing:
        kept = f" (kept on purpose: {one.kept})" if one.kept else ""
        text.append(f"{clean(f'growing {growing_words(one, now_ns)}{kept}')}\n", style="yellow")
    for words in (*_sibling_lines(details, bars), *_stack_heading(details)):
        text.append(f"{clean(words)}\n")
    for frame in details.stack or ("(no stack could be taken)",):
        for line in frame_lines(frame, sources):
            text.append(f"  {clean(line)}\n", style="cyan")
    text.rstrip()
    return text


def verdict_lines(suspects: Sequence[JudgedSuspect], scanned: bool) -> Iterator[tuple[str, str]]:
    """What was judged and why, with a style for each line."""
    if not scanned:
        yield "no verdict yet: s lets kmemleak scan", "dim"
        return
    if not suspects:
        yield "kmemleak lists none of these: something still points to them, or they were freed, or are too new", "dim"
    for verdict in (Verdict.CONFIRMED, Verdict.UNDECIDED, Verdict.DISMISSED):
        some = [suspect for suspect in suspects if suspect.verdict is verdict]
        reasons = list(dict.fromkeys(suspect.reason for suspect in some))
        for number, reason in enumerate(reasons[:_REASONS]):
            yield f"{verdict if number else f'{verdict} ({len(some):,})'}: {reason}", VERDICT_STYLES[verdict]
        if len(reasons) > _REASONS:
            yield f"… and {len(reasons) - _REASONS} more reasons", "dim"


def _sibling_lines(details: GroupDetails, bars: str) -> Iterator[str]:
    yield sibling_words(details.siblings)
    if details.lifetimes.freed:
        yield lifetime_line(details.lifetimes, bars)
    others = details.siblings.free_sites[1:_SITES]
    if others:
        yield "also freed at " + ", ".join(f"{site} ({count:,})" for site, count in others)


def lifetime_line(lifetimes: Lifetimes, bars: str = BLOCKS) -> str:
    """After what time they were freed: a bar for each stretch, from the shortest lifetime to the longest."""
    first, last = lifetimes.bins[0][0], lifetimes.bins[-1][0]
    each = max(-(-(last - first + 1) // _BARS), 1)
    counts = [0] * ((last - first) // each + 1)
    for number, count in lifetimes.bins:
        counts[(number - first) // each] += count
    low, high = bin_range(first)[0] / 1e9, lifetimes.longest_ns / 1e9
    return f"freed after {units.seconds(low)} {histogram(counts, bars)} {units.seconds(high)}"


def _stack_heading(details: GroupDetails) -> Iterator[str]:
    if details.stacks > 1:
        yield f"the largest of {'many' if details.stacks > 60 else details.stacks} call stacks:"
