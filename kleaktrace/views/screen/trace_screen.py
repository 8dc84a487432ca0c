# SPDX-License-Identifier: GPL-2.0-or-later
"""The screen as a whole: keys, and who tells whom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Footer, Input, Static

from kleaktrace.core.grouping.group_labels import OUTSTANDING_BY, GroupBy
from kleaktrace.core.live_table.arrangement import Arrangement, SortBy
from kleaktrace.core.live_table.group_details import GroupDetails
from kleaktrace.core.live_table.live_table import Asked, TableLook
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.errors import KleaktraceError
from kleaktrace.terminal import clean
from kleaktrace.views.screen.age_slider import AgeSlider
from kleaktrace.views.screen.bars import BLOCKS
from kleaktrace.views.screen.detail_text import detail_text
from kleaktrace.views.screen.dialogs import HelpScreen, NameQuestion
from kleaktrace.views.screen.feed import Feed
from kleaktrace.views.screen.looker import Looker, Shown, Wanted
from kleaktrace.views.screen.newest_only import NewestOnly
from kleaktrace.views.screen.outstanding_table import OutstandingTable, TableHeading
from kleaktrace.views.screen.status_text import growing_line, nothing_text, totals_line, trust_line, wanted_line

_ENDED_S = 0.25
"""Between looks at whether we are asked to end from outside."""

_TEXTS = ("totals", "trust", "growing", "wanted", "details", "status")
_PANES = ("", "-large", "-hidden")


@dataclass(frozen=True, slots=True)
class Options:
    """How the screen begins. bars: the characters of small bars. ended: whether we are asked to end from outside."""

    by: GroupBy = GroupBy.STACK
    older_s: float = 0.0
    unreclaimable: bool = False
    bars: str = BLOCKS
    ended: Callable[[], bool] = lambda: False


class _Asking(NamedTuple):
    look: TableLook
    group: int


class _FilterBox(Input):
    """The filter, with its own keys at the bottom."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "keep it, and go back to the table", key_display="Enter"),
        Binding("escape", "app.leave", "show all rows", key_display="Esc"),
    ]


class TraceScreen(App[None]):
    """Shows what a feed gives until `q`. `failure` is what a feed raised, if that ended it."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "kleaktrace trace"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("g", "group_by_next", "Group"),
        Binding("o", "sort_by_next", "Sort"),
        Binding("m", "mark", "Mark"),
        Binding("s", "scan", "Scan"),
        Binding("w", "write", "Write"),
        Binding("p", "pause", "Pause"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("r", "reverse", show=False),
        Binding("M,shift+m", "unmark", show=False),
        Binding("u", "unreclaimable", show=False),
        Binding("left_square_bracket", "older(-1)", show=False),
        Binding("right_square_bracket", "older(1)", show=False),
        Binding("enter", "details", show=False),
        Binding("escape", "leave", show=False),
        *(Binding(str(key), f"group_by('{by}')", show=False) for key, by in enumerate(OUTSTANDING_BY, start=1)),
    ]
    # The terminal's own colours: they suit light and dark ones, sixteen colours, and none.
    CSS = """
    * {
        background: ansi_default; color: ansi_default;
        scrollbar-background: ansi_default; scrollbar-background-hover: ansi_default;
        scrollbar-background-active: ansi_default; scrollbar-corner-color: ansi_default;
        scrollbar-color: ansi_blue; scrollbar-color-hover: ansi_bright_blue; scrollbar-color-active: ansi_bright_blue;
    }
    Screen { overflow: hidden; }
    .line, #totals-text, #growing-text { height: 1; }
    #trust-text { height: auto; max-height: 2; }
    #wanted-text { width: 1fr; height: 1; }
    #details { height: 1fr; border-top: solid ansi_default; scrollbar-size-vertical: 1; }
    #details:focus { border-top: heavy ansi_default; }
    #details.-large { height: 4fr; }
    #details.-hidden { display: none; }
    #filter { display: none; }
    Input > .input--cursor { text-style: reverse; }
    Input > .input--placeholder { text-style: dim; }
    Input > .input--selection { text-style: reverse; }
    #filter.-open { display: block; }
    #status-text { text-style: bold; height: auto; min-height: 1; max-height: 4; }
    .-ascii #details { border-top: ascii ansi_default; }
    .-ascii .dialog { border: ascii ansi_default; }
    """

    class Look(Message):
        """There is something to show."""

        def __init__(self, shown: Shown) -> None:
            super().__init__()
            self.shown = shown

    class Details(Message):
        """More is known of the chosen row."""

        def __init__(self, details: GroupDetails) -> None:
            super().__init__()
            self.details = details

    class Sources(Message):
        """Source lines were found."""

        def __init__(self, sources: SourceLines) -> None:
            super().__init__()
            self.sources = sources

    class Said(Message):
        """There is something to say. done: of what was asked for by `s` or `w`."""

        def __init__(self, words: str, done: bool = False) -> None:
            super().__init__()
            self.words, self.done = words, done

    class Failed(Message):
        """A feed raised this."""

        def __init__(self, failure: BaseException) -> None:
            super().__init__()
            self.failure = failure

    def __init__(self, feed: Feed, options: Options) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self._feed, self._options = feed, options
        asked = Asked(options.by, options.older_s, unreclaimable=options.unreclaimable)
        self._wanted = Wanted(asked, Arrangement())
        self._shown: Shown | None = None
        self._details: GroupDetails | None = None
        self._sources = NO_SOURCE_LINES
        self._busy = ""
        fail = self._fail
        self._looker = Looker(feed, self._wanted, lambda shown: self._tell(self.Look(shown)), fail)
        self._detailer = NewestOnly[_Asking]("details", self._find_details, fail)
        self._finder = NewestOnly[tuple[str, ...]]("source lines", self._find_sources, fail)
        self._table = OutstandingTable(options.bars)
        self._heading = TableHeading(self._table)
        self._slider = AgeSlider(options.older_s)
        self._texts = {name: Static(id=f"{name}-text", markup=False) for name in _TEXTS}
        self._pane = VerticalScroll(id="details")
        # Blinking would be sent over slow lines, too.
        self._box = _FilterBox(
            placeholder="show only rows that contain …", id="filter", select_on_focus=False, compact=True
        )

    # What is on the screen

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield from (self._texts[name] for name in ("totals", "trust", "growing"))
        with Horizontal(classes="line"):
            yield self._texts["wanted"]
            yield self._slider
        yield self._heading
        yield self._table
        with self._pane:
            yield self._texts["details"]
        yield self._box
        yield self._texts["status"]
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin."""
        self.theme = "ansi-dark"
        self.set_class(self._options.bars != BLOCKS, "-ascii")
        self._texts["growing"].display = False
        self._box.cursor_blink = False
        self._put("totals", Text("starting …"))
        self._table.focus()
        self.set_interval(_ENDED_S, self._end_if_asked)
        for thread in (self._looker, self._detailer, self._finder):
            thread.start()

    def on_unmount(self) -> None:
        """Nothing asks the feed for anything more."""
        for thread in (self._detailer, self._finder, self._looker):
            thread.stop()

    def on_trace_screen_look(self, message: Look) -> None:
        """Show it."""
        self._shown = shown = message.shown
        self._table.nothing = nothing_text(self._wanted)
        self._table.show(shown)
        self._heading.show(self._wanted.arrangement.sort)
        self._show_lines()
        self._show_details()
        self._ask_for_details()

    def _show_lines(self) -> None:
        if self._shown is None:
            return
        seen, rows = self._shown.seen, self._shown.order.size
        self._put("totals", totals_line(seen))
        self._put("trust", trust_line(seen))
        growing = growing_line(seen)
        self._put("growing", growing)
        self._texts["growing"].display = bool(growing)
        self._put("wanted", wanted_line(self._wanted, rows, seen.table.time_ns))

    def _put(self, name: str, text: Text) -> None:
        shown = self._texts[name]
        if shown.is_attached and shown.content != text:  # what does not change is not drawn again
            shown.update(text)

    def _say(self, words: str) -> None:
        self._put("status", Text(clean(words)))

    # The chosen row

    def on_outstanding_table_chosen(self) -> None:
        """Tell about another row."""
        self._details = None
        self._show_details()
        self._ask_for_details()

    def _ask_for_details(self) -> None:
        row = self._table.chosen_row
        if row is not None and self._shown is not None:
            self._detailer.ask(_Asking(self._shown.seen.table, row.group))

    def _find_details(self, asking: _Asking) -> None:
        self._tell(self.Details(self._feed.details(asking.look, asking.group)))

    def _find_sources(self, frames: tuple[str, ...]) -> None:
        self._tell(self.Sources(self._feed.sources(frames)))

    def on_trace_screen_details(self, message: Details) -> None:
        """Show them, if they are of the row that is still chosen."""
        row = self._table.chosen_row
        if row is None or row.group != message.details.group:
            return
        if self._details is None or self._details.stack != message.details.stack:
            self._finder.ask(message.details.stack)
        self._details = message.details
        self._show_details()

    def on_trace_screen_sources(self, message: Sources) -> None:
        """Show them from now on."""
        self._sources = message.sources
        self._show_details()

    def _show_details(self) -> None:
        row, details = self._table.chosen_row, self._details
        text = Text()
        if row is not None and details is not None and self._shown is not None:
            seen = self._shown.seen
            growing = [one for one in seen.growing if details.stack[: len(one.frames)] == tuple(one.lines())]
            text = detail_text(row, details, seen.table.time_ns, growing, self._sources, self._options.bars)
        self._put("details", text)

    def action_details(self) -> None:
        """Make the pane large, hide it, bring it back."""
        pane = self._pane
        now = next((name for name in _PANES[1:] if pane.has_class(name)), "")
        pane.remove_class(*_PANES[1:])
        following = _PANES[(_PANES.index(now) + 1) % len(_PANES)]
        if following:
            pane.add_class(following)
        if following == "-hidden":
            self._table.focus()

    # What is asked for

    def _want(self, asked: Asked | None = None, arrangement: Arrangement | None = None) -> None:
        self._wanted = replace(
            self._wanted, asked=asked or self._wanted.asked, arrangement=arrangement or self._wanted.arrangement
        )
        self._looker.want(self._wanted)
        self._show_lines()

    def action_group_by(self, by: str) -> None:
        """Group by this."""
        self._want(asked=replace(self._wanted.asked, by=GroupBy(by)))

    def action_group_by_next(self) -> None:
        """Group by the next key."""
        at = OUTSTANDING_BY.index(self._wanted.asked.by)
        self.action_group_by(OUTSTANDING_BY[(at + 1) % len(OUTSTANDING_BY)])

    def action_sort_by_next(self) -> None:
        """Sort by the next column."""
        sorts = list(SortBy)
        if not self._feed.verdicts.scanned:
            sorts.remove(SortBy.VERDICT)
        arrangement = self._wanted.arrangement
        at = sorts.index(arrangement.sort) if arrangement.sort in sorts else -1
        self._want(arrangement=replace(arrangement, sort=sorts[(at + 1) % len(sorts)], reverse=False))

    def on_table_heading_sort(self, message: TableHeading.Sort) -> None:
        """Sort by the heading that was clicked; the other way round if it is so already."""
        arrangement = self._wanted.arrangement
        again = arrangement.sort is message.sort
        self._want(arrangement=replace(arrangement, sort=message.sort, reverse=again and not arrangement.reverse))

    def action_reverse(self) -> None:
        """Sort the other way round."""
        arrangement = self._wanted.arrangement
        self._want(arrangement=replace(arrangement, reverse=not arrangement.reverse))

    def action_unreclaimable(self) -> None:
        """Hide what the kernel takes back by itself, or show it again."""
        asked = self._wanted.asked
        self._want(asked=replace(asked, unreclaimable=not asked.unreclaimable))

    def action_older(self, steps: int) -> None:
        """Move the slider."""
        self._slider.move(steps)

    def on_age_slider_moved(self, message: AgeSlider.Moved) -> None:
        """Show only what is so old."""
        self._want(asked=replace(self._wanted.asked, older_s=message.older_s))

    def action_mark(self) -> None:
        """Show only what comes from now on."""
        self._want(asked=replace(self._wanted.asked, since_ns=self._feed.now_ns))
        self._say("marked: do it now; only what comes from now on is shown (M: all again)")

    def action_unmark(self) -> None:
        """Show what was there before the mark, too."""
        self._want(asked=replace(self._wanted.asked, since_ns=None))
        self._say("")

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self._wanted = replace(self._wanted, paused=not self._wanted.paused)
        self._want()

    # The filter

    def action_filter(self) -> None:
        """Ask for a text."""
        self._box.add_class("-open")
        self._box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show only what contains it."""
        if event.input is self._box:
            self._want(arrangement=replace(self._wanted.arrangement, contains=event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go back to the table, and keep the filter."""
        if event.input is self._box:
            self._close_filter()

    def action_leave(self) -> None:
        """Forget the filter and what was said, and go back to the table."""
        self._box.value = ""
        self._close_filter()
        self._say("")

    def _close_filter(self) -> None:
        self._box.set_class(bool(self._box.value), "-open")
        self._table.focus()

    # What takes longer

    def action_scan(self) -> None:
        """Have kmemleak scan."""
        self._beside("scanning", lambda: self._feed.scan(lambda words: self._tell(self.Said(words))))

    def action_write(self) -> None:
        """Ask for a name, and write a capture."""
        self.push_screen(NameQuestion(f"trace-{datetime.now():%Y%m%d-%H%M%S}"), self._write)

    def _write(self, name: str | None) -> None:
        if name:
            self._beside("writing", lambda: self._feed.save(name))

    def _beside(self, what: str, work: Callable[[], str]) -> None:
        """Do one such thing at a time, and say what came of it."""
        if self._busy:
            self._say(f"wait: {self._busy} is not done yet")
            return
        self._busy = what
        self._say(f"{what} …")

        def run() -> None:
            try:
                self._tell(self.Said(work(), done=True))
            except KleaktraceError as error:
                self._tell(self.Said(f"{error.what}: {error.fix}" if error.fix else error.what, done=True))
            except BaseException as failure:  # ends the screen, and is shown then
                self._fail(failure)

        threading.Thread(target=run, name=what, daemon=True).start()

    def on_trace_screen_said(self, message: Said) -> None:
        """Say it."""
        self._say(message.words)
        if message.done:
            self._busy = ""
            self._want()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    # The end

    def _tell(self, message: Message) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self.post_message(message)

    def _fail(self, failure: BaseException) -> None:
        self._tell(self.Failed(failure))

    def on_trace_screen_failed(self, message: Failed) -> None:
        """End, and let the command say why."""
        self.failure = message.failure
        self.exit()

    def _end_if_asked(self) -> None:
        if self._options.ended():
            self.exit()


def show_screen(feed: Feed, options: Options) -> None:
    """Show it until the reader ends it. Raises what the feed did."""
    screen = TraceScreen(feed, options)
    screen.run()
    if screen.failure is not None:
        raise screen.failure
