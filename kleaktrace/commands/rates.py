# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace rates`: who allocates, frees and grows how fast."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
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
from kleaktrace.commands.starting import say_absent, say_compiling, say_unseen
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.errors import UsageError
from kleaktrace.session.live import live_session
from kleaktrace.session.rate_recorder import RateRecorder
from kleaktrace.session.session import Session

if TYPE_CHECKING:
    from rich.console import Console

    from kleaktrace.core.rates.rate_table import CountedGroups, RateTable
    from kleaktrace.core.recording import Recording

_LIVE_S = 2.0
_PLAIN_S = 10.0
_FRAMES = 12
_LIVE_REST = 8
"""Lines on a live screen besides the groups."""

_JSON_GROUPS = 100
_NO_VERDICTS = "rates give no verdicts: use `kleaktrace run` or `kleaktrace confirm`"


@click.command()
@click.option(
    "--by", type=click.Choice([str(by) for by in GroupBy]), default="context", show_default=True, help="Group by."
)
@click.option("--duration", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="Stop by itself.")
@click.option("--top", metavar="N", type=click.IntRange(1), default=15, show_default=True, help="Rows to show.")
@unreclaimable_option
@filter_options
@exact_stacks_option
@pages_option
@json_option
@capture_option
@click.argument("of", metavar="[CAPTURE]", required=False, type=click.Path(path_type=Path))
def rates(
    by: str,
    duration: float | None,
    top: int,
    unreclaimable: bool,
    filters: Filters,
    exact_stacks: bool,
    pages: bool,
    json_file: str | None,
    capture: Path | None,
    of: Path | None,
) -> None:
    """Show who allocates, frees and grows how fast, until Ctrl-C; what grows fastest comes first.

    Of a CAPTURE, show what there was.

    Rates are per second since tracing began. The interval holds the lasting growth of what is outstanding, above what
    merely comes and goes, with 95 % confidence. Below the table is what the machine itself says about the same time.
    """
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.documents.rates import document
    from kleaktrace.views.terminal import console
    from kleaktrace.views.terminal.rates import lines

    if unreclaimable and not (GroupBy(by).by_stack or GroupBy(by) is GroupBy.CACHE):
        what = f"--unreclaimable leaves out call stacks or caches, and --by {by} knows neither"
        raise UsageError(what, "group by what these tell: --by requester, for instance")
    output = OutputFile(json_file)
    screen = console.make(stderr=output.is_stdout)
    if of is not None:
        whole, recording = _of_capture(of, GroupBy(by), max(top, _JSON_GROUPS), unreclaimable)
        output.write(dumps(document(whole, recording.report())))
        screen.print(lines(whole.first(top), _FRAMES, screen.width), soft_wrap=True)
        return
    recorder = RateRecorder(GroupBy(by), unreclaimable)
    with (
        DeferredInterrupt() as ending,
        live_session(filters, recorder, exact_stacks, pages, say_compiling) as session,
        capturing(capture, session) as keep,
    ):
        say_unseen(session)
        say_absent(filters)
        with contextlib.suppress(KeyboardInterrupt):
            _watch(screen, session, recorder, top, duration, ending)
        session.stop()
        whole = recorder.table(session, max(top, _JSON_GROUPS))
        recording = replace(session.recording(), gaps=[_NO_VERDICTS])
        output.write(dumps(document(whole, recording.report())))
        screen.print(lines(whole.first(top), _FRAMES, screen.width), soft_wrap=True)
        keep(recording)


def _of_capture(path: Path, by: GroupBy, top: int, unreclaimable: bool) -> tuple[RateTable, Recording]:
    from kleaktrace.core.grouping.group_labels import StackLabels
    from kleaktrace.core.rates.rate_table import RateTable, counted_stacks
    from kleaktrace.edge.capture.capture_reader import read_capture

    recording = read_capture(path)
    if by.by_stack:
        counted = counted_stacks(recording, by, StackLabels(by, recording.names.stacks.get), unreclaimable)
    else:
        counted = _counted_events(path, recording, by, unreclaimable)
    return RateTable.of(counted, recording, recording.machine, top), recording


def _counted_events(path: Path, recording: Recording, by: GroupBy, unreclaimable: bool) -> CountedGroups:
    from kleaktrace.core.rates.counted_events import counted_again
    from kleaktrace.edge.capture.capture_reader import captured_batches, captured_times
    from kleaktrace.edge.machine.meminfo import CgroupPaths

    if not captured_times(path) and recording.ledger.totals().allocations:
        what = f"{path} counts by call stack, which tells no {by}"
        raise UsageError(what, "group by what call stacks tell; or keep every event: kleaktrace record --events")
    cgroups = CgroupPaths()  # those of this machine may be others, and are not looked at
    return counted_again(captured_batches(path), by, recording.names, cgroups.path, unreclaimable)


def _watch(
    console: Console,
    session: Session,
    recorder: RateRecorder,
    top: int,
    duration: float | None,
    ending: DeferredInterrupt,
) -> None:
    from kleaktrace.views.terminal.rates import lines

    end = None if duration is None else time.monotonic() + duration
    if not console.is_terminal:
        while ending.sleep_before(end, _PLAIN_S):
            console.print(lines(recorder.table(session, top), _FRAMES, console.width))
            console.print()
        return

    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            frames = (console.size.height - _LIVE_REST) // top
            live.update(lines(recorder.table(session, top), max(frames, 1), console.width), refresh=True)
            if not ending.sleep_before(end, _LIVE_S):
                break
