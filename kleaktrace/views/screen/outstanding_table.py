# SPDX-License-Identifier: GPL-2.0-or-later
"""The table: however many rows there are, only the lines on the screen are made, and only what changed is drawn."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.live_table.arrangement import SortBy
from kleaktrace.core.live_table.live_table import TableRow
from kleaktrace.core.live_table.stack_verdicts import verdict
from kleaktrace.views.screen.bars import BLOCKS
from kleaktrace.views.screen.looker import Shown
from kleaktrace.views.screen.row_line import Layout

_CHOSEN = Style(reverse=True)


class OutstandingTable(ScrollView, can_focus=True):
    """Rows of what is to be shown. The chosen row stays chosen wherever it moves, until it is gone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "move_page(-1)", show=False),
        Binding("pagedown", "move_page(1)", show=False),
        Binding("home", "move_to(0)", show=False),
        Binding("end", "move_to(-1)", show=False),
    ]
    DEFAULT_CSS = """
    OutstandingTable { height: 1fr; min-height: 3; overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; }
    """

    class Chosen(Message):
        """Another row was chosen, or none (None)."""

        def __init__(self, group: int | None) -> None:
            super().__init__()
            self.group = group

    def __init__(self, bars: str = BLOCKS) -> None:
        super().__init__()
        self.nothing = ""
        """What is said where there are no rows."""
        self._bars = bars
        self._shown: Shown | None = None
        self._place = 0
        self._group: int | None = None
        self._strips: dict[int, Strip] = {}

    @property
    def layout_now(self) -> Layout:
        """The columns."""
        by = GroupBy.STACK if self._shown is None else self._shown.seen.table.asked.by
        scanned = self._shown is not None and self._shown.verdicts.scanned
        name = "who asked (call stack)" if by is GroupBy.STACK else str(by)
        return Layout(max(self.scrollable_content_region.width, 1), name, scanned, self._bars)

    @property
    def chosen_row(self) -> TableRow | None:
        """The chosen row as it is now; None: there is none."""
        if self._shown is None or self._group is None:
            return None
        return self._shown.seen.table.row(self._group)

    def show(self, shown: Shown) -> None:
        """Show this instead."""
        same = self._shown is not None and self._shown.seen.table.groups is shown.seen.table.groups
        self._shown = shown
        follow = self._place
        if same and self._place and self._group is not None:  # the first row stays the first, whoever it is
            at = np.flatnonzero(shown.order == self._group)
            follow = int(at[0]) if at.size else self._place
        self.virtual_size = Size(self.size.width, max(shown.order.size, 1))
        self._choose(follow, scroll=follow != self._place)
        self._draw_what_changed()

    def _choose(self, place: int, scroll: bool = True) -> None:
        many = 0 if self._shown is None else self._shown.order.size
        self._place = min(max(place, 0), max(many - 1, 0))
        group = int(self._shown.order[self._place]) if self._shown is not None and many else None
        if group != self._group:
            self._group = group
            self.post_message(self.Chosen(group))
        if scroll:
            self._bring_into_view()

    def _bring_into_view(self) -> None:
        top, height = self.scroll_offset.y, max(self.scrollable_content_region.height, 1)
        if not top <= self._place < top + height:
            y = self._place if self._place < top else self._place - height + 1
            self.scroll_to(y=y, animate=False, immediate=True)

    def _draw_what_changed(self) -> None:
        before, self._strips = self._strips, {}
        top = self.scroll_offset.y
        for y in range(top, top + self.scrollable_content_region.height):
            if before.get(y) != self._strip(y):
                self.refresh_line(y)

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        return self._strip(y + self.scroll_offset.y)

    def _strip(self, place: int) -> Strip:
        if place not in self._strips:
            width = self.scrollable_content_region.width
            self._strips[place] = Strip(self._segments(place)).adjust_cell_length(width)
        return self._strips[place]

    def _segments(self, place: int) -> list[Segment]:
        shown = self._shown
        if shown is None or place >= shown.order.size:
            return [Segment(self.nothing if place == 0 else "", Style(dim=True))]
        group = int(shown.order[place])
        table = shown.seen.table
        line = self.layout_now.line(table.row(group), table.time_ns, verdict(int(shown.ranks[group])))
        if place != self._place:
            return line
        return [Segment("".join(segment.text for segment in line), _CHOSEN)]

    def on_resize(self) -> None:
        """Columns are as wide as there is room for."""
        self._strips = {}
        self._bring_into_view()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Choose the row."""
        self._go(event.y + self.scroll_offset.y)

    def action_move(self, lines: int) -> None:
        """Choose another row, so many lines further down."""
        self._go(self._place + lines)

    def action_move_page(self, pages: int) -> None:
        """Choose another row, so many pages further down."""
        self._go(self._place + pages * max(self.scrollable_content_region.height - 1, 1))

    def action_move_to(self, place: int) -> None:
        """Choose the first row, or the last (-1)."""
        many = 0 if self._shown is None else self._shown.order.size
        self._go(place if place >= 0 else many - 1)

    def _go(self, place: int) -> None:
        self._choose(place)
        self._draw_what_changed()


class TableHeading(Widget):
    """The headings above the table; a click on one sorts by it."""

    DEFAULT_CSS = "TableHeading { height: 1; }"

    class Sort(Message):
        """A heading was clicked."""

        def __init__(self, sort: SortBy) -> None:
            super().__init__()
            self.sort = sort

    def __init__(self, table: OutstandingTable) -> None:
        super().__init__()
        self._table = table
        self._segments: list[Segment] = []

    def show(self, sort: SortBy) -> None:
        """The table is sorted by this now."""
        segments = self._table.layout_now.heading(sort)
        if segments != self._segments:
            self._segments = segments
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The only line."""
        return Strip(self._segments).adjust_cell_length(self.size.width)

    def on_click(self, event: events.Click) -> None:
        """Sort by what was clicked."""
        sort = self._table.layout_now.sort_at(event.x)
        if sort is not None:
            self.post_message(self.Sort(sort))
