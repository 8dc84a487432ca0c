# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of small bars: how something went, and how it is spread."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-:=+*#"
"""For consoles that have no blocks."""

_FLAT = 0.01
"""What changes by less than this share of itself did not change."""


def sparkline(levels: Sequence[float], width: int, bars: str = BLOCKS) -> str:
    """The last `width` levels, one bar each, between the least and the most of them; blanks before the first."""
    shown = levels[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    if high - low <= _FLAT * high:
        return (bars[0] * len(shown)).rjust(width)
    most = len(bars) - 1
    return "".join(bars[round((level - low) / (high - low) * most)] for level in shown).rjust(width)


def histogram(counts: Sequence[int], bars: str = BLOCKS) -> str:
    """A bar for each count, as high as its share of the largest; a blank for none."""
    most = max(counts, default=0)
    return "".join(bars[(count * len(bars) - 1) // most] if count else " " for count in counts)
