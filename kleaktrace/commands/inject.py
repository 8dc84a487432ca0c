# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace inject`: error paths, one by one."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from kleaktrace.commands.capturing import capture_option, capturing
from kleaktrace.commands.injecting import Limits, Progress, Walker
from kleaktrace.commands.judging import judged
from kleaktrace.commands.options import OutputFile, json_option, known_option, log_option
from kleaktrace.commands.running import opened_log
from kleaktrace.commands.scanning import kmemleak_if_on, scan_and_watch
from kleaktrace.commands.settling import settle_what_is_left
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.commands.source_lines import debug_dir_option, with_source_lines
from kleaktrace.commands.starting import say_compiling, say_unseen
from kleaktrace.core.evidence.evidence import JudgedSuspect
from kleaktrace.core.evidence.injected_runs import FailedAllocation, Walk
from kleaktrace.core.injection.asked_stacks import AskedStacks
from kleaktrace.core.injection.report import InjectionReport, by_number_gaps, walk_gaps
from kleaktrace.core.injection.unexplained import count_unexplained, series_of, unexplained_runs, unjudged_runs
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.known_leaks import KnownLeaks
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import CommandResult
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.edge.injection.choose import FIX, choose
from kleaktrace.edge.injection.injector import Injector
from kleaktrace.edge.injection.walk_file import KnownPath, WalkFile
from kleaktrace.edge.kmemleak.freelist_scrub import scrub_freelists
from kleaktrace.edge.machine.memory_counters import machine_memory, missing_since
from kleaktrace.edge.machine.processes import living
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.errors import EnvironmentRefusal, UsageError
from kleaktrace.session.live import live_session
from kleaktrace.session.session import Session
from kleaktrace.views.terminal import console

_MOST_REPEATED = 8
"""Error paths that are repeated, to judge what something points to; each takes some runs."""


@click.command(context_settings={"ignore_unknown_options": True})
@json_option
@capture_option
@debug_dir_option
@known_option
@click.option("--module", metavar="NAME", help="Only what passes through this module's code, loaded or not yet.")
@click.option("--in", "function", metavar="FUNCTION", help="Only what passes through this function.")
@click.option("--max", "most", metavar="N", type=click.IntRange(1), help="End after N failures.")
@click.option("--all", "again", is_flag=True, help="Fail call stacks that have failed already, too.")
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    help="A run that takes longer hangs. Without: ten times as long as one in which nothing fails, and 30 s at least.",
)
@click.option(
    "--resume",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep in FILE what has failed, and go on with what it has, after the machine was restarted.",
)
@log_option
@click.option("--no-kmemleak", is_flag=True, help="Do not scan: judge only what unloaded modules left behind.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.pass_context
def inject(
    ctx: click.Context,
    json_file: str | None,
    capture: Path | None,
    debug_dirs: tuple[Path, ...],
    known: KnownLeaks,
    module: str | None,
    function: str | None,
    most: int | None,
    again: bool,
    timeout: float | None,
    resume: Path | None,
    log_file: str | None,
    no_kmemleak: bool,
    command: tuple[str, ...],
) -> None:
    """Run CMD again and again, let another allocation fail in each run, and tell which error paths leak.

    CMD must do the same each time and undo what it does, such as loading a module and unloading it. First it runs
    without any failure; then the first allocation fails whose call stack has not failed yet, until none is left.
    Allocations count of CMD, and of what it starts, that pass through code of modules, or of the one that --module
    names. One scan at the end judges all runs.

    Exit code: 0 clean, 1 confirmed leaks, 4 evidence incomplete: a run crashed the kernel or hung, or left something
    that nothing explains.
    """
    from kleaktrace.views.documents.injection import document
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.terminal import injection as view

    if shutil.which(command[0]) is None:
        raise UsageError(f"there is no command {command[0]!r}", "kleaktrace inject -- CMD ARG…")
    if again and resume is not None:
        raise UsageError("--resume goes by call stacks, and with --all they fail again", "leave out one of them")
    module = Filters(module=module).module  # as the kernel calls it
    file = None if resume is None else WalkFile.opened(resume, command)
    output = OutputFile(json_file)
    screen = console.make(stderr=output.is_stdout)
    asked = AskedStacks()
    client, gaps = (None, []) if no_kmemleak else kmemleak_if_on()
    for gap in gaps:
        console.say(gap)
    with (
        opened_log(log_file, goes_on=resume is not None) or nullcontext() as log,
        DeferredInterrupt() as ending,
        _injector(module, by_stacks=function is not None or resume is not None) as injector,
        # Each run does something new, in few events: what it costs to learn stacks would not come back.
        live_session(
            exact_stacks=True, observer=None if injector.sees_stacks else asked, compiling=say_compiling
        ) as session,
        capturing(capture, session) as keep,
    ):
        say_unseen(session)
        if client is not None:
            scrub_freelists()
        explained, memory = session.explained(), machine_memory()
        with _progress() as progress:
            limits = Limits(most, timeout, again)
            asked_by = partial(_asked_by, session, asked, module)
            walker = Walker(command, injector, partial(_named, session), ending, limits, progress, file, asked_by, log)
            _plain(walker, session, function)
            asked.enough()
            walker.fail_all()
            settled = _settled(session, ending, module)
            if injector.sees_stacks:
                gaps += _repeat(walker, session, module)
        walk = walker.walk
        alive = living()
        readings: list[list[Suspect]] = []
        if client is not None:
            readings, interrupted = scan_and_watch(session, client, ending)
            gaps += interrupted

        def observed(recording: Recording) -> Recording:
            return replace(
                recording,
                readings=readings,
                series=series_of(walk),
                alive=alive,
                command=_result(command, walk),
                growth_windows=[(walk.runs[0].start_ns, walk.end_ns)],
                settled=settled,
                walk=walk,
                gaps=[*gaps, *walker.gaps, *walk_gaps(walk)],
            )

        recording, suspects = judged(
            session, client, observed, partial(missing_since, memory, explained, session.explained)
        )
        if not injector.sees_stacks:
            recording = _with_gaps_by_number(recording, suspects, walker, module)
        keep(recording)
    report = recording.report(suspects, known)
    report = with_source_lines(report, report.told_frames() | walk.failed_frames(), debug_dirs, live=True)
    found = InjectionReport(report, walk)
    if file is not None:
        # What comes of them, without regard to what the reader knows of already.
        file.add(_known(InjectionReport(recording.report(suspects), walk)), finished=not walk.stopped)
    output.write(dumps(document(found)))
    view.show(screen, found)
    ctx.exit(int(report.outcome.exit_code))


@contextmanager
def _injector(module: str | None, by_stacks: bool) -> Iterator[Injector]:
    """The best means there is; if it is not the best, tell why. Raises `EnvironmentRefusal` if there is none.

    by_stacks: it must go by call stacks.
    """
    chosen = choose(module)
    try:
        if by_stacks and not chosen.injector.sees_stacks:
            raise EnvironmentRefusal(
                f"--in and --resume need call stacks, and BPF can't override: {chosen.refused}", FIX
            )
        if chosen.refused:
            console.say(f"by {chosen.injector.means}, as nothing can be overridden by BPF: {chosen.refused}")
        yield chosen.injector
    finally:
        chosen.injector.close()


def _plain(walker: Walker, session: Session, function: str | None) -> None:
    """Run without any failure; let only fail then what goes through the function. Raises `UsageError`."""
    known = function is not None and _limit_to(function, walker, session)
    walker.plain()
    if function is not None and not known and not _limit_to(function, walker, session):
        raise UsageError(
            f"nobody knows a function {function!r}", "give one of the kernel, or of a module that CMD loads"
        )


def _repeat(walker: Walker, session: Session, module: str | None) -> list[str]:
    """Repeat what left something that only repetition can judge; what is missing of that from the evidence."""
    with session.looking() as recording:
        left = unexplained_runs(recording, walker.walk, module)
    walker.repeat(left[:_MOST_REPEATED])
    more = len(left) - _MOST_REPEATED
    return [f"{more} more error paths left something that only repetition could judge"] if more > 0 else []


def _with_gaps_by_number(
    recording: Recording, suspects: Sequence[JudgedSuspect], walker: Walker, module: str | None
) -> Recording:
    """What is missing from the evidence where allocations fail by number, so that nothing can be repeated, either."""
    gaps = [*recording.gaps, *by_number_gaps(walker.could_fail, walker.passed_over)]
    unjudged = len(unjudged_runs(recording, recording.walk, suspects, module)) if recording.walk else 0
    if unjudged:
        gaps.append(f"{unjudged} {'runs' if unjudged > 1 else 'run'} left something that only repetition could judge")
    return replace(recording, gaps=gaps)


def _limit_to(function: str, walker: Walker, session: Session) -> bool:
    """Let only fail what goes through a function, if it is known by now where it is."""
    with session.looking() as recording:
        places = recording.names.symbols.places_of(function)
    if places:
        walker.only_through(function, places)
    return bool(places)


def _known(found: InjectionReport) -> list[KnownPath]:
    """What need not fail again, each once, with what came of it."""
    paths = {
        result.run.failed.key: KnownPath(result.run.failed.key, result.run.failed.stack, path.outcome)
        for path in found.paths
        for result in path.results
        if result.run.failed is not None and result.run.failed.key
    }
    return list(paths.values())


def _named(session: Session, stacks: Sequence[tuple[int, Sequence[int]]]) -> list[list[Frame]]:
    """The frames of call stacks as of their times, when all that was loaded by then has its names."""
    if not stacks:
        return []
    with session.looking() as recording:
        frame = recording.names.symbols.frame
        return [[frame(address, time_ns) for address in addresses] for time_ns, addresses in stacks]


def _asked_by(session: Session, asked: AskedStacks, module: str | None, pid: int) -> list[FailedAllocation]:
    """What a process has asked for by now that could fail."""
    with session.looking():
        return asked.of(pid, module)


def _settled(session: Session, ending: DeferredInterrupt, module: str | None) -> Settled | None:
    """Wait for what the runs have set going, RCU and work queues; None: there is no need, or no time."""

    def left() -> int:
        with session.looking() as recording:
            unexplained = count_unexplained(recording, module)
        return session.left_behind() + unexplained

    return settle_what_is_left(session, ending, left)


def _result(command: tuple[str, ...], walk: Walk) -> CommandResult:
    """How the runs in which nothing failed ended; that the others fail is what they are for."""
    plain = [run.status for run in walk.runs if run.failed is None]
    failed = [status for status in plain if status]
    return CommandResult(command, failed[0] if failed else 0, runs=len(walk.runs), failed_runs=len(failed))


@contextmanager
def _progress() -> Iterator[Progress]:
    """Tell which failure it is; on a terminal only."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    with console.make(stderr=True).status("starting") as status:
        yield Progress(status.update)
