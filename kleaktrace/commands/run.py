# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace run`: brackets one command, and tells whether it leaked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import click

from kleaktrace.commands.capturing import capture_option, capturing
from kleaktrace.commands.judging import judged
from kleaktrace.commands.options import (
    OutputFile,
    exact_stacks_option,
    json_option,
    known_option,
    log_option,
    pages_option,
)
from kleaktrace.commands.running import Launch, opened_log, run_command
from kleaktrace.commands.scanning import kmemleak_if_on, scan_and_watch
from kleaktrace.commands.settling import settle_what_is_left
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.commands.source_lines import debug_dir_option, with_source_lines
from kleaktrace.commands.starting import say_compiling, say_unseen
from kleaktrace.core.evidence.rounds import RoundSeries, marked
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.known_leaks import KnownLeaks
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.recording import Recording
from kleaktrace.edge.kmemleak.freelist_scrub import scrub_freelists
from kleaktrace.edge.machine.invoking_user import invoking_user
from kleaktrace.edge.machine.marks import marks
from kleaktrace.edge.machine.memory_counters import machine_memory, missing_since
from kleaktrace.edge.machine.processes import living
from kleaktrace.session.live import live_session
from kleaktrace.session.session import Session
from kleaktrace.views.terminal import console

_MOST_WINDOWS = 64


@click.command(context_settings={"ignore_unknown_options": True})
@json_option
@capture_option
@exact_stacks_option
@pages_option
@debug_dir_option
@known_option
@click.option("--no-kmemleak", is_flag=True, help="Do not scan: judge only what unloaded modules left behind.")
@click.option(
    "--repeat", metavar="N", type=click.IntRange(1), default=1, help="Run CMD N times, and compare the rounds."
)
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    help="End CMD after S seconds, and judge what there is.",
)
@click.option("--as-user", is_flag=True, help="Run CMD as the user who called sudo, in that user's environment.")
@log_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.pass_context
def run(
    ctx: click.Context,
    json_file: str | None,
    capture: Path | None,
    exact_stacks: bool,
    pages: bool,
    debug_dirs: tuple[Path, ...],
    known: KnownLeaks,
    no_kmemleak: bool,
    repeat: int,
    timeout: float | None,
    as_user: bool,
    log_file: str | None,
    command: tuple[str, ...],
) -> None:
    """Trace while CMD runs, let kmemleak scan, and give a verdict on every suspect.

    With --repeat, CMD is run again and again: what every round leaves behind is a leak, though something may point to
    it. CMD must undo what it does. `kleaktrace mark NAME` inside CMD begins a round, too, and so does each load of a
    module that is unloaded again.

    Exit code: 0 clean, 1 confirmed leaks, 4 evidence incomplete, or something left that nothing explains. CMD's own
    status is reported, not returned.
    """
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.documents.report import document
    from kleaktrace.views.terminal import report as view

    launch = Launch(command, invoking_user() if as_user else None)
    launch.refuse_missing()
    launch = replace(launch, log=opened_log(log_file, launch.user))
    output = OutputFile(json_file)
    screen = console.make(stderr=output.is_stdout)
    client, gaps = (None, []) if no_kmemleak else kmemleak_if_on()
    for gap in gaps:
        console.say(gap)
    with (
        launch.log or nullcontext(),
        DeferredInterrupt() as ending,
        live_session(exact_stacks=exact_stacks, pages=pages, compiling=say_compiling) as session,
        capturing(capture, session) as keep,
        marks(None if launch.user is None else launch.user.uid) as set_marks,
    ):
        say_unseen(session)
        if client is not None:
            scrub_freelists()
        explained, memory = session.explained(), machine_memory()
        started_ns = time.monotonic_ns()
        with _progress(repeat) as progress:
            ran = run_command(launch, ending, repeat, timeout, progress)
        set_by_command = set_marks.read()

        def rounds(recording: Recording) -> list[RoundSeries]:
            return [ran.rounds, *marked(set_by_command, ran.ended_ns), *recording.load_cycles(ran.ended_ns)]

        with session.looking() as recording:
            compared = any(series.count > 1 for series in rounds(recording))
        settled = _settle(session, ending, ran.ended_ns if compared and client is None else None)
        alive = living()
        readings: list[list[Suspect]] = []
        if client is not None:
            readings, interrupted = scan_and_watch(session, client, ending)
            gaps += interrupted

        def observed(recording: Recording) -> Recording:
            return replace(
                recording,
                readings=readings,
                series=rounds(recording),
                alive=alive,
                command=ran.result,
                growth_windows=_windows(started_ns, set_by_command, ran.ended_ns),
                settled=settled,
                gaps=gaps,
            )

        missing = partial(missing_since, memory, explained, session.explained)
        recording, suspects = judged(session, client, observed, missing)
        keep(recording)
    report = recording.report(suspects, known)
    frames = report.told_frames() if json_file is None else report.all_frames()
    report = with_source_lines(report, frames, debug_dirs, live=True)
    output.write(dumps(document(report)))
    view.show(screen, report)
    ctx.exit(int(report.outcome.exit_code))


def _settle(session: Session, ending: DeferredInterrupt, compared_ns: int | None) -> Settled | None:
    """Wait for what the command has set going, RCU and work queues; None: there is no need, or no time.

    Of unloaded modules, whatever they left counts at once. What rounds are compared by may have been allocated by
    anybody until `compared_ns`; scans take longer than such frees do: with scans, it is None.
    """

    def left() -> int:
        return session.left_behind() if compared_ns is None else session.left_of(compared_ns)

    return settle_what_is_left(session, ending, left)


def _windows(started_ns: int, marks: Sequence[tuple[int, str]], ended_ns: int) -> list[tuple[int, int]]:
    """When to look for growth: while the command ran, and between any two of its marks."""
    edges = [*sorted(at for at, _ in marks if started_ns < at < ended_ns), ended_ns]
    between = list(pairwise(edges))[:_MOST_WINDOWS]
    return [(started_ns, ended_ns), *between]


@contextmanager
def _progress(repeat: int) -> Iterator[Callable[[int], None]]:
    """Tell which round it is; on a terminal that is wide enough for it only, and not if there is only one."""
    screen = console.make(stderr=True)
    if repeat == 1 or not sys.stderr.isatty():
        yield lambda done: None
        return
    with screen.status(f"round 1 of {repeat}") as status:
        yield lambda done: status.update(f"round {min(done + 1, repeat)} of {repeat}")
