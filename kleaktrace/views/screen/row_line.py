# SPDX-License-Identifier: GPL-2.0-or-later
"""The table's lines: columns that fit 80 characters, and who asked for the memory in what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.live_table.arrangement import SortBy
from kleaktrace.core.live_table.live_table import TableRow
from kleaktrace.terminal import clean
from kleaktrace.views.screen import short_units
from kleaktrace.views.screen.bars import BLOCKS, sparkline
from kleaktrace.views.verdict_styles import VERDICT_STYLES

_WIDE = 100
_TREND, _TREND_WIDE = 8, 16
_VERDICT = 9
_LONGEST = 512
"""Longer names are cut before they are looked at: nobody sees more."""

_GROWING, _NAME, _DIM = Style(color="yellow"), Style(color="cyan"), Style(dim=True)
_VERDICTS = {verdict: Style.parse(style) for verdict, style in VERDICT_STYLES.items()}
_HEADING, _SORTED = Style(bold=True), Style(bold=True, reverse=True)
_PLAIN = Style()


class Column(NamedTuple):
    """One column. sort: by what a click on its heading sorts; None: by nothing."""

    heading: str
    width: int
    sort: SortBy | None
    left: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table so many characters wide; with a verdict if there was a scan."""

    width: int
    name: str
    scanned: bool = False
    bars: str = BLOCKS

    @property
    def trend(self) -> int:
        """How many bars there are in a row."""
        return _TREND_WIDE if self.width >= _WIDE else _TREND

    @property
    def columns(self) -> list[Column]:
        """All, from the left; a blank lies between two of them."""
        columns = [
            Column("bytes", 7, SortBy.BYTES),
            Column("count", 7, SortBy.COUNT),
            Column("net/s", 7, SortBy.NET),
            Column("trend", self.trend, None, left=True),
            Column("oldest", 6, SortBy.OLDEST),
        ]
        if self.scanned:
            columns.append(Column("verdict", _VERDICT, SortBy.VERDICT, left=True))
        taken = sum(column.width + 1 for column in columns)
        return [*columns, Column(self.name, max(self.width - taken, 1), SortBy.NAME, left=True)]

    def sort_at(self, x: int) -> SortBy | None:
        """By what a click at this place of the heading sorts."""
        for column in self.columns:
            if x <= column.width:
                return column.sort
            x -= column.width + 1
        return None

    def heading(self, sort: SortBy) -> list[Segment]:
        """The heading; that of the column by which is sorted stands out."""
        segments = []
        for column in self.columns:
            style = _SORTED if column.sort is sort else _HEADING
            words = fitted(column.heading, column.width).strip()
            blank = " " * (column.width - cell_len(words))
            pieces = [Segment(words, style), Segment(blank, _PLAIN)]
            segments += [*(pieces if column.left else reversed(pieces)), Segment(" ", _PLAIN)]
        return segments[:-1]

    def line(self, row: TableRow, now_ns: int, verdict: Verdict | None) -> list[Segment]:
        """A row's line."""
        net = row.net_bytes
        growth = "" if net is None else ("+" if net > 0 else "") + short_units.size(net)
        words = [
            (short_units.size(row.bytes), _PLAIN),
            (short_units.number(row.count), _PLAIN),
            (growth, _GROWING if net and net > 0 else _PLAIN),
            (sparkline(row.levels, self.trend, self.bars), _PLAIN),
            (short_units.age(max(now_ns - row.oldest_ns, 0) / 1e9), _PLAIN),
        ]
        if self.scanned:
            words.append((str(verdict) if verdict else "-", _VERDICTS[verdict] if verdict else _DIM))
        words.append((title(row), _DIM if row.reclaimable else _NAME))
        segments = []
        for column, (word, style) in zip(self.columns, words, strict=True):
            segments += [Segment(fitted(word, column.width, column.left), style), Segment(" ", _PLAIN)]
        return segments[:-1]


def title(row: TableRow) -> str:
    """Who a row is, cleaned for the terminal."""
    mark = " (reclaimable)" if row.reclaimable else ""
    what = f": {row.what}" if row.what else ""
    return clean(f"{row.label[:_LONGEST] or '(no name)'}{mark}{what[:_LONGEST]}")


def fitted(text: str, width: int, left: bool = True) -> str:
    """Text in so many cells of the terminal, with an ellipsis where it is cut."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    blank = " " * (width - length)
    return text + blank if left else blank + text
