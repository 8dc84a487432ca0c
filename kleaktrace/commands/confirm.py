# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace confirm`: a verdict on what kmemleak lists now."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from kleaktrace.commands.capturing import capturing
from kleaktrace.commands.judging import judged
from kleaktrace.commands.options import OutputFile, exact_stacks_option, json_option, known_option
from kleaktrace.commands.report import report as report_command
from kleaktrace.commands.scanning import scan_and_watch
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.commands.source_lines import debug_dir_option, with_source_lines
from kleaktrace.commands.starting import say_compiling, say_unseen
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.known_leaks import KnownLeaks
from kleaktrace.edge.kmemleak.client import KmemleakClient
from kleaktrace.edge.machine.memory_counters import machine_memory, missing_since
from kleaktrace.session.live import live_session
from kleaktrace.views.terminal import console

_GAP_S = 12.0
"""Between scans: the longer the watch, the more frees are seen; two gaps are patience enough for a person waiting."""


@click.command()
@json_option
@click.option(
    "--capture",
    metavar="NAME",
    type=click.Path(path_type=Path),
    help="Keep all that is learned in NAME; if NAME is a capture already, judge that one again instead.",
)
@exact_stacks_option
@debug_dir_option
@known_option
@click.pass_context
def confirm(
    ctx: click.Context,
    json_file: str | None,
    capture: Path | None,
    exact_stacks: bool,
    debug_dirs: tuple[Path, ...],
    known: KnownLeaks,
) -> None:
    """Give a verdict on every suspect that kmemleak lists now.

    What was allocated before tracing began, which is all of it unless it leaks on, can only be watched: a suspect that
    is freed meanwhile is dismissed. The rest stays undecided. To have a leak confirmed, reproduce it under
    `kleaktrace run`.
    """
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.documents.report import document
    from kleaktrace.views.terminal import report as view

    if capture is not None and capture.exists():
        ctx.invoke(report_command, json_file=json_file, debug_dirs=debug_dirs, known=known, capture=capture)
    output = OutputFile(json_file)
    screen = console.make(stderr=output.is_stdout)
    client = KmemleakClient()
    client.require_on()
    with (
        DeferredInterrupt() as ending,
        live_session(exact_stacks=exact_stacks, compiling=say_compiling) as session,
        capturing(capture, session) as keep,
    ):
        say_unseen(session)
        begun = time.monotonic()
        explained, memory = session.explained(), machine_memory()
        readings, gaps = scan_and_watch(session, client, ending, _GAP_S)
        watched_s = time.monotonic() - begun
        recording, suspects = judged(
            session,
            client,
            lambda recording: replace(recording, readings=readings, watched_s=watched_s),
            lambda: missing_since(memory, explained, session.explained),
        )
        undecided = sum(not s.in_window and s.verdict is Verdict.UNDECIDED for s in suspects)
        if undecided:
            gaps.append(
                f"{undecided} suspects were allocated before tracing began: reproduce the leak under `kleaktrace run`"
            )
        recording = recording.with_gaps(gaps)
        keep(recording)
    report = recording.report(suspects, known)
    frames = report.told_frames() if json_file is None else report.all_frames()
    report = with_source_lines(report, frames, debug_dirs, live=True)
    output.write(dumps(document(report)))
    view.show(screen, report)
    ctx.exit(int(report.outcome.exit_code))
