# SPDX-License-Identifier: GPL-2.0-or-later
"""The call stacks of a report for the browser: all that `report_mode.js` shows, as packed text.

Strings from the kernel are cleaned here, once each; the browser puts them nowhere but into text.

`measures` is a list, as another kind of page, the comparison, has others: each names a column with one number a stack,
its unit, and what a reader calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.overview.frame_tree import FrameTree
from kleaktrace.core.overview.stack_details import StackDetails
from kleaktrace.core.overview.stack_overview import StackOverview
from kleaktrace.core.source_lines.source_lines import SourceLines
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.terminal import clean
from kleaktrace.views.html.packed import differences, packed

MOST_DETAILED = 16_384
"""Of so many stacks, the first ones, there are curves and the places that free."""

_MOST_CELLS = 1 << 20
"""So many levels there are at most, of stacks times samples."""

_MOST_SITES = 12
_SHARE = 65_535
"""What a share of 1 is packed as."""


def stack_data(overview: StackOverview, details: StackDetails, seconds: float, sources: SourceLines) -> str:
    """All stacks, with the details of the first of them; the recording lasted so many seconds."""
    strings = Strings()
    columns: dict[str, npt.ArrayLike] = {
        **tree_columns(overview.tree, strings),
        **_sources(overview, strings, sources),
        "leaf": overview.leaves,
        "requester_at": overview.requesters_at,
        "objects": overview.objects,
        "bytes": overview.bytes,
        "allocations": overview.allocations,
        "freed": overview.freed,
        "oldest_ms": _milliseconds(overview.oldest_s),
        "caches": strings.numbers(overview.caches),
        "contexts": strings.numbers(overview.contexts),
        "comms": strings.numbers(overview.comms),
        **_suspected(overview),
        **_curves(details),
        **_free_sites(details, strings),
        **_levels(details),
    }
    header: dict[str, Any] = {
        "seconds": round(seconds, 3),
        "measures": [
            {"name": "bytes", "column": "bytes", "unit": "bytes"},
            {"name": "objects", "column": "objects", "unit": "objects"},
            {"name": "allocation rate", "column": "allocations", "unit": "allocations"},
        ],
        "strings": strings.texts,
    }
    return packed(header, columns)


class Strings:
    """Every string once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a string, cleaned."""
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(clean(text))
        return number

    def numbers(self, texts: Iterable[str]) -> list[int]:
        """Those of several."""
        return [self.number(text) for text in texts]


def tree_columns(tree: FrameTree, strings: Strings) -> dict[str, npt.ArrayLike]:
    """The frames of all stacks."""
    parents = np.array(tree.parents, np.int64)
    return {
        "up": np.arange(parents.size) - parents,  # how far back the parent is; of an outermost frame, before the first
        "frame": np.array(tree.frame_numbers, np.uint64),
        "frame_function": strings.numbers(_function(frame) for frame in tree.frames),
        "frame_module": strings.numbers(frame.module or "" for frame in tree.frames),
        "frame_offset": [frame.offset for frame in tree.frames],
        "frame_size": [frame.size for frame in tree.frames],
    }


def _sources(overview: StackOverview, strings: Strings, sources: SourceLines) -> dict[str, npt.ArrayLike]:
    """Of each frame so many lines: the functions inlined there, innermost first, and the place in the source."""
    known = [sources.of(str(frame)) if sources else () for frame in overview.tree.frames]
    return {
        "frame_sources": [len(lines) for lines in known],
        "source": strings.numbers(
            f"{one.function}  {one.place} (inlined)" if one.inlined else one.place for lines in known for one in lines
        ),
    }


def _function(frame: Frame) -> str:
    return str(frame) if frame.name is None else frame.name


def _suspected(overview: StackOverview) -> dict[str, npt.ArrayLike]:
    """Only stacks of which there is anything to say."""
    suspected = overview.suspected
    some = np.flatnonzero((suspected.confirmed > 0) | (suspected.undecided > 0) | suspected.growing)
    return {
        "suspected": some,
        "confirmed": suspected.confirmed[some],
        "confirmed_bytes": suspected.confirmed_bytes[some],
        "undecided": suspected.undecided[some],
        "undecided_bytes": suspected.undecided_bytes[some],
        "growing": suspected.growing[some],
    }


def _curves(details: StackDetails) -> dict[str, npt.ArrayLike]:
    curves = details.curves
    ages, shares = (
        np.concatenate([np.zeros(0), *parts])
        for parts in ([curve.ages_s for curve in curves], [curve.shares for curve in curves])
    )
    return {
        "curve_steps": [curve.shares.size for curve in curves],
        "curve_ages_ns": np.minimum(np.rint(ages * 1e9), 2**52),
        "curve_shares": np.rint(np.clip(shares, 0, 1) * _SHARE),
        "curve_end_ns": [min(round(curve.followed_s * 1e9), 2**52) for curve in curves],
    }


def _free_sites(details: StackDetails, strings: Strings) -> dict[str, npt.ArrayLike]:
    sites: Sequence[Sequence[tuple[str, int]]] = [some[:_MOST_SITES] for some in details.free_sites]
    return {
        "free_sites": [len(some) for some in sites],
        "free_site": strings.numbers(site for some in sites for site, _ in some),
        "free_count": [count for some in sites for _, count in some],
    }


def _levels(details: StackDetails) -> dict[str, npt.ArrayLike]:
    rows = _MOST_CELLS // max(details.times_s.size, 1)
    return {
        "times_ms": _milliseconds(np.maximum(details.times_s, 0)),
        "all_levels": details.all_levels,
        "levels": differences(details.levels[:rows]),
    }


def _milliseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.rint(np.maximum(seconds, 0) * 1e3)
