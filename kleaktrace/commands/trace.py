# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace trace`: outstanding allocations while the kernel runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kleaktrace.commands.capturing import capture_option, capturing
from kleaktrace.commands.options import (
    OutputFile,
    exact_stacks_option,
    filter_options,
    json_option,
    pages_option,
    unreclaimable_option,
)
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.commands.source_lines import debug_dir_option, with_source_lines
from kleaktrace.commands.starting import say_absent, say_compiling, say_unseen
from kleaktrace.commands.trace_screen import no_screen, show_trace_screen
from kleaktrace.core.grouping.group_labels import OUTSTANDING_BY, GroupBy
from kleaktrace.core.grouping.outstanding_groups import group_tally
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.rates.interval_rates import CounterSnapshot, rates
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES
from kleaktrace.edge.machine.meminfo import CgroupPaths
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.errors import UsageError
from kleaktrace.session.live import live_session
from kleaktrace.session.session import Session

if TYPE_CHECKING:
    from rich.console import Console
    from rich.console import Group as Renderables

    from kleaktrace.core.report import Report
    from kleaktrace.session.replay import ReplaySource

_LIVE_S = 1.0
_PLAIN_S = 5.0
_GROWING_S = 5.0
"""Between looks at what is growing."""

_GROWING_LIVE = 3
_GROWING_ROOM = 2 * _GROWING_LIVE + 3
"""Lines that they may take on a live screen."""

_FINAL_FRAMES = 12


@click.command()
@click.option("--duration", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="Stop by itself.")
@click.option("--top", metavar="N", type=click.IntRange(1), default=10, show_default=True, help="Rows to show.")
@click.option(
    "--by", type=click.Choice([str(by) for by in OUTSTANDING_BY]), default="stack", show_default=True, help="Group by."
)
@click.option("--older", metavar="SECONDS", type=click.FloatRange(0), default=0.0, help="Only allocations this old.")
@unreclaimable_option
@filter_options
@exact_stacks_option
@pages_option
@json_option
@capture_option
@debug_dir_option
@click.option("--plain", is_flag=True, help="Print tables, though this is a terminal, and there could be a screen.")
@click.option(
    "--replay",
    "of",
    metavar="CAPTURE",
    type=click.Path(path_type=Path),
    help="Show what was recorded with --events, instead of this kernel. Needs no privilege.",
)
@click.option(
    "--speed",
    metavar="FACTOR",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Of --replay: so many times as fast.",
)
def trace(
    duration: float | None,
    top: int,
    by: str,
    older: float,
    unreclaimable: bool,
    filters: Filters,
    exact_stacks: bool,
    pages: bool,
    json_file: str | None,
    capture: Path | None,
    debug_dirs: tuple[Path, ...],
    plain: bool,
    of: Path | None,
    speed: float,
) -> None:
    """Show who holds outstanding allocations, and how fast they grow, until Ctrl-C.

    On a terminal this is a screen with keys (? lists them); else, and with --plain, a table now and then.

    An allocation is outstanding if its free was not seen. That is not a leak yet: caches hold memory on purpose.
    """
    output = OutputFile(json_file)
    shown = _Shown(GroupBy(by), top, older, unreclaimable)
    again = _replayed(of, speed, filters) if of is not None else None
    if again is not None:
        duration = min(duration or again.lasts_s, again.lasts_s)
    with (
        DeferredInterrupt() as ending,
        Session(again)
        if again
        else live_session(filters, exact_stacks=exact_stacks, pages=pages, compiling=say_compiling) as session,
        capturing(capture, session) as keep,
    ):
        end = None if duration is None else time.monotonic() + duration
        say_unseen(session)
        say_absent(filters)
        # Now, and not before: what happens meanwhile is traced already.
        from kleaktrace.commands.trace_feed import TraceFeed
        from kleaktrace.edge.kmemleak.client import KmemleakClient
        from kleaktrace.views.documents.json_text import dumps
        from kleaktrace.views.documents.report import document
        from kleaktrace.views.terminal import console

        screen = console.make(stderr=output.is_stdout)
        feed = TraceFeed(session, None if again else KmemleakClient(), capture, debug_dirs)
        with contextlib.suppress(KeyboardInterrupt):
            if plain or not screen.is_terminal:
                _watch_plainly(screen, session, shown, end, ending)
            elif (why := no_screen()) is not None:
                console.say(f"a table without keys: {why}")
                _watch_live(screen, session, shown, end, ending)
            else:
                show_trace_screen(feed, shown.by, older, unreclaimable, lambda: ending.asked or _is_past(end))
                ending.sleep(0)  # whoever asked has got what was asked for
        feed.end()
        session.stop()
        recording = feed.observed(session.recording())
        if again is not None:
            recording = replace(recording, started=again.recorded.started)
        suspects = recording.judge() if feed.scanned else []
        if suspects:
            recording = recording.with_contents(session.read_contents(recording, suspects))
        report = recording.report(suspects)
        frames = report.told_frames(outstanding=top) if json_file is None else report.all_frames()
        report = with_source_lines(report, frames, debug_dirs, live=again is None)
        output.write(dumps(document(report)))
        screen.print(shown.render(session, _FINAL_FRAMES, report))
        screen.print()
        _print_rest(screen, report, feed.scanned)
        keep(recording)


def _print_rest(screen: Console, report: Report, judged: bool) -> None:
    """What there is to say below the table."""
    from kleaktrace.views.terminal import growing
    from kleaktrace.views.terminal import report as view

    if judged:
        view.show(screen, report)
        return
    if report.growing:
        growing_now = growing.lines(report.growing, report.now_ns, _FINAL_FRAMES, sources=report.source_lines)
        screen.print(growing_now, soft_wrap=True)
        screen.print()
    view.header(screen, report)


def _replayed(of: Path, speed: float, filters: Filters) -> ReplaySource:
    from kleaktrace.session.replay import replay

    if filters != Filters():
        raise UsageError("filters work in the kernel, and a replay has none", "filter when recording")
    return replay(of, speed)


@dataclass
class _Shown:
    """What the screen shows, and the books at the last look, for the rates."""

    by: GroupBy
    top: int
    older: float
    unreclaimable: bool = False
    last: CounterSnapshot | None = None
    growing: Sequence[GrowingStack] = ()
    growing_ns: int = 0
    cgroups: CgroupPaths = field(default_factory=CgroupPaths)

    def render_live(self, session: Session, frames: int) -> Renderables:
        """The table as of now, and in a few lines below it what is growing."""
        from rich.console import Group as Renderables

        from kleaktrace.views.terminal import growing

        table = self.render(session, frames)
        if session.now_ns >= self.growing_ns + _GROWING_S * 1e9:
            with session.looking() as recording:
                self.growing, self.growing_ns = recording.growing(), session.now_ns
        if not self.growing:
            return table
        return Renderables(table, growing.lines(self.growing, self.growing_ns, frames=1, many=_GROWING_LIVE))

    def render(self, session: Session, frames: int, report: Report | None = None) -> Renderables:
        """The table as of now, with rates since the last rendering; or of the whole session, given its report."""
        from rich.console import Group as Renderables
        from rich.text import Text

        from kleaktrace.views.terminal import units
        from kleaktrace.views.terminal.outstanding import lines

        start = CounterSnapshot.empty(session.start.time_ns)
        # Naming what was counted may take most of a second: copies, so that the drain goes on meanwhile.
        counts = session.counts(self.older, by_process=self.by.by_process)
        now = CounterSnapshot.at(counts.time_ns, counts.by_stack)
        lost, totals = counts.loss.events, counts.totals
        if report is not None and self.by is GroupBy.STACK and not self.older:
            groups = [one for one in report.outstanding if not (self.unreclaimable and one.reclaimable)][: self.top]
        else:
            outstanding = counts.outstanding
            if self.unreclaimable:
                outstanding = outstanding.only(~session.names.reclaimable(outstanding.rows))
            if self.by is GroupBy.CGROUP:
                self.cgroups.look()
            groups = group_tally(outstanding, session.names, self.by, self.cgroups.path)[: self.top]
        before = start if report is not None or self.last is None else self.last
        self.last = now
        loss = f", {lost:,} events LOST" if lost else ""
        summary = Text(
            f"{units.seconds(session.seconds)}: {totals.allocations:,} allocations, {totals.frees:,} frees, "
            f"{totals.outstanding:,} outstanding ({units.size(totals.outstanding_bytes)}){loss}",
            style="bold red" if lost else "bold",
        )
        sources = NO_SOURCE_LINES if report is None else report.source_lines
        table = lines(groups, rates(groups, before, now), now.time_ns, self.by, frames, sources)
        return Renderables(summary, Text(), table)


def _is_past(end: float | None) -> bool:
    return end is not None and time.monotonic() >= end


def _watch_plainly(
    console: Console,
    session: Session,
    shown: _Shown,
    end: float | None,
    ending: DeferredInterrupt,
) -> None:
    while ending.sleep_before(end, _PLAIN_S):
        console.print(shown.render_live(session, _FINAL_FRAMES))
        console.print()


def _watch_live(
    console: Console,
    session: Session,
    shown: _Shown,
    end: float | None,
    ending: DeferredInterrupt,
) -> None:
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            room = (console.size.height - 4 - (_GROWING_ROOM if shown.growing else 0)) // shown.top - 1
            live.update(shown.render_live(session, max(room, 1)), refresh=True)
            if not ending.sleep_before(end, _LIVE_S):
                break
