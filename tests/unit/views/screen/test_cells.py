# SPDX-License-Identifier: GPL-2.0-or-later
"""What fits into a cell of the table: numbers, bars, names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.live_table.arrangement import SortBy
from kleaktrace.core.live_table.live_table import TableRow
from kleaktrace.views.screen import short_units
from kleaktrace.views.screen.bars import ASCII, BLOCKS, histogram, sparkline
from kleaktrace.views.screen.row_line import Layout, fitted

SECOND = 1_000_000_000
ROW = TableRow(0, "drv_probe [drv]", "kmalloc-128, task, insmod", 12_345, 5 << 20, 2048.0, 0, (1.0, 2.0, 4.0), False)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (-2048, "-2.0K"),
        (102_349, "100K"),
        (5 << 20, "5.0M"),
        (3 << 40, "3.0T"),
    ],
)
def test_sizes(count: float, words: str) -> None:
    assert short_units.size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0.0s"), (9.94, "9.9s"), (59.9, "59s"), (60, "1m00s"), (3725, "1h02m"), (266_400, "3d02h")],
)
def test_ages(seconds: float, words: str) -> None:
    assert short_units.age(seconds) == words


@given(st.floats(-(2.0**46), 2.0**46), st.integers(0, 1 << 40), st.floats(0, 1e9))
def test_numbers_fit_their_columns(size: float, count: int, age: float) -> None:
    assert len(short_units.size(size)) <= 7
    assert len(short_units.number(count)) <= 7
    assert len(short_units.age(age)) <= 6


def test_a_sparkline_has_a_bar_for_each_of_the_last_levels() -> None:
    assert sparkline([], 4) == "    "
    assert sparkline([0.0, 7.0], 4) == "  ▁█"
    assert sparkline([5.0, 0.0, 1.0, 2.0], 3) == "▁▅█"
    assert sparkline([100.0, 100.5, 100.0], 3) == "▁▁▁", "noise is no trend"
    assert sparkline([0.0, 7.0], 2, ASCII) == "_#"


def test_a_histogram_shows_even_one_among_many() -> None:
    assert histogram([]) == ""
    assert histogram([0, 1, 1000]) == " ▁█"
    assert set(histogram(range(1, 9))) == set(BLOCKS)


@pytest.mark.parametrize("width", [1, 40, 80, 120, 200])
@pytest.mark.parametrize("scanned", [False, True])
def test_lines_are_as_wide_as_the_table(width: int, scanned: bool) -> None:
    layout = Layout(width, "cache", scanned)
    least = sum(column.width + 1 for column in layout.columns) - 1
    for segments in (layout.heading(SortBy.BYTES), layout.line(ROW, 65 * SECOND, Verdict.CONFIRMED)):
        assert cell_len("".join(segment.text for segment in segments)) == max(width, least)


def test_a_line() -> None:
    line = "".join(segment.text for segment in Layout(80, "x").line(ROW, 65 * SECOND, None))
    assert line == "   5.0M  12,345   +2.0K      ▁▃█  1m05s drv_probe [drv]: kmalloc-128, task, ins…"
    scanned = "".join(segment.text for segment in Layout(80, "x", True).line(ROW, 65 * SECOND, Verdict.CONFIRMED))
    assert scanned == "   5.0M  12,345   +2.0K      ▁▃█  1m05s confirmed drv_probe [drv]: kmalloc-128,…"


def test_a_click_on_a_heading_finds_its_column() -> None:
    layout = Layout(80, "x", True)
    heading = "".join(segment.text for segment in layout.heading(SortBy.BYTES))
    for word, sort in (("bytes", SortBy.BYTES), ("net/s", SortBy.NET), ("trend", None), ("verdict", SortBy.VERDICT)):
        assert layout.sort_at(heading.index(word)) is sort
    assert layout.sort_at(79) is SortBy.NAME
    assert layout.sort_at(500) is None


@given(st.text(), st.integers(1, 30))
def test_cut_text_takes_the_cells_it_was_given(text: str, width: int) -> None:
    assert cell_len(fitted(text, width)) == width
