# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace record`: keeps a session, to be looked at later or elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from kleaktrace.commands.capturing import capturing
from kleaktrace.commands.options import exact_stacks_option, filter_options, pages_option
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.commands.starting import say_absent, say_compiling, say_unseen
from kleaktrace.edge.capture.event_queue import EventQueue
from kleaktrace.edge.machine.processes import living
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.errors import EvidenceLost
from kleaktrace.session.live import live_session
from kleaktrace.views.terminal import console

_LOOK_S = 1.0
_OVERRUN = "events came faster than they could be written: not every one of them is kept"
_NOT_ASKED = "kmemleak was not asked: only what unloaded modules left behind, rounds and growth can be judged"


@click.command()
@click.option(
    "-o", "path", metavar="NAME", required=True, type=click.Path(path_type=Path), help="The capture to be made."
)
@click.option("--duration", metavar="SECONDS", type=click.FloatRange(0, min_open=True), help="Stop by itself.")
@click.option("--events", is_flag=True, help="Keep every event, for `kleaktrace trace --replay`: much more to write.")
@filter_options
@exact_stacks_option
@pages_option
def record(path: Path, duration: float | None, events: bool, filters: Filters, exact_stacks: bool, pages: bool) -> None:
    """Trace until Ctrl-C, and keep what is learned: counters over time, what is outstanding, and all names.

    NAME is a directory while it grows, and one file in the end. If this ends badly, the directory is a capture, too,
    of all but the last second. It holds kernel addresses: only its owner can read it.
    """
    screen = console.make(stderr=True)
    queue = EventQueue() if events else None
    with (
        DeferredInterrupt() as ending,
        live_session(filters, queue, exact_stacks, pages, say_compiling) as session,
        capturing(path, session, queue) as keep,
    ):
        say_unseen(session)
        say_absent(filters)
        screen.print(f"kleaktrace: recording to {path}" + ("" if duration else "; Ctrl-C ends it"), markup=False)
        end = None if duration is None else time.monotonic() + duration
        with suppress(KeyboardInterrupt):
            while not keep.failure and ending.sleep_before(end, _LOOK_S):
                pass
        session.stop()
        recording = session.recording()
        cycles = recording.load_cycles(session.now_ns)
        gaps = [_NOT_ASKED, *([_OVERRUN] if queue is not None and queue.overrun else [])]
        keep(replace(recording, series=cycles, alive=living(), gaps=gaps))
        if keep.failure:
            raise EvidenceLost(f"{path} is not whole: {keep.failure}", f"what there is: kleaktrace report {path}")
