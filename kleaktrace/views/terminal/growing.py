# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks that keep growing: how fast, and what that means."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from kleaktrace.core.growth.detection import Growing
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.core.symbols.call_stacks import requester_words
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import units
from kleaktrace.views.terminal.frames import frame_lines
from kleaktrace.views.terminal.suspect_words import why_kept

_MANY = 20


def lines(
    found: Sequence[GrowingStack],
    now_ns: int,
    frames: int,
    many: int = _MANY,
    sources: SourceLines = NO_SOURCE_LINES,
) -> Text:
    """The first `many` in their order, each with up to `frames` frames below it, innermost first."""
    text = Text("growing: allocated again and again, and some of it never comes back", style="bold yellow")
    for one in found[:many]:
        text.append("\n")
        _append(text, one, now_ns, frames, sources)
    if len(found) > many:
        text.append(f"\n  … and {len(found) - many} more call stacks (--json has all)", style="not bold dim")
    text.append(f"\n  {meaning(found)}", style="not bold default")
    return text


def kept_words(kept: Sequence[GrowingStack]) -> str:
    """What grows, but is kept on purpose, in a line."""
    size = units.size(sum(one.growing.bytes for one in kept))
    why = why_kept(one.kept for one in kept)
    return f"growing, but kept on purpose: {units.count(len(kept), 'call stack')}, {size} ({why})"


def _append(text: Text, one: GrowingStack, now_ns: int, frames: int, sources: SourceLines) -> None:
    text.append(f"  {clean(f'{requester_words(one.lines())}: {words(one, now_ns)}')}", style="not bold yellow")
    if one.listed:
        text.append(f"\n    kmemleak lists {one.listed:,} of them: see above", style="not bold default")
    own = one.lines()
    for frame in own[:frames]:
        for line in frame_lines(frame, sources):
            text.append(f"\n      {clean(line)}", style="not bold default")
    if len(own) > frames:
        text.append(f"\n      … {len(own) - frames} more", style="not bold dim")


def words(one: GrowingStack, now_ns: int) -> str:
    """How fast, for how long, and what of; names are as they came."""
    growing = one.growing
    low, high = growing.ci95
    where = ", ".join(word for word in (one.cache, one.context, one.comm) if word)
    return (
        f"+{units.size(growing.bytes_per_s)}/s (95 %: {units.size(low)} to {units.size(high)}) "
        f"{_how_long(growing, now_ns)}, "
        f"{share(growing.leak_fraction)} of its allocations never freed so far, "
        f"{growing.outstanding:,} outstanding ({units.size(growing.bytes)}); {where}"
    )


def _how_long(growing: Growing, now_ns: int) -> str:
    """For how long it grew, and if that is over, when that was."""
    if growing.until_ns is None:
        return f"for {units.seconds(max(now_ns - growing.since_ns, 0) / 1e9)}"
    took, ago = max(growing.until_ns - growing.since_ns, 0) / 1e9, max(now_ns - growing.until_ns, 0) / 1e9
    return f"for {units.seconds(took)}, {units.seconds(ago)} ago"


def share(fraction: float) -> str:
    """A share as people say it: 100 %, 12 %, 0.4 %, below 0.01 %."""
    percent = fraction * 100
    if percent < 0.01:
        return "below 0.01 %"
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.2g} %"


def meaning(found: Sequence[GrowingStack]) -> str:
    """What it may be, going by whether kmemleak lists them."""
    if all(one.listed is None for one in found):
        return "A leak, or a cache that nothing has bounded yet; kmemleak can't see it while something points there."
    if all(one.listed for one in found):
        return "These are leaking at this rate."
    return (
        "What kmemleak does not list, something still points to: a list or table that is never emptied, "
        "or a cache that nothing has bounded yet."
    )
