"""`kleaktrace run`: brackets one command, and tells whether it leaked."""

from __future__ import annotations

import shutil
import subprocess
import sys

import click

from kleaktrace.commands.options import OutputFile, exact_stacks_option, json_option
from kleaktrace.commands.scanning import scan_and_watch, tracked_by
from kleaktrace.commands.signals import EndingBetween
from kleaktrace.core.kmemleak_health import State
from kleaktrace.core.kmemleak_text import Suspect
from kleaktrace.core.report import CommandResult
from kleaktrace.edge.kmemleak import KmemleakClient
from kleaktrace.edge.kmemleak_health import diagnose
from kleaktrace.edge.session import Session
from kleaktrace.edge.stale_freelists import overwrite_stale_freelists
from kleaktrace.errors import UsageError
from kleaktrace.views import console

_POLL_S = 0.02


@click.command(context_settings={"ignore_unknown_options": True})
@json_option
@exact_stacks_option
@click.option("--no-kmemleak", is_flag=True, help="Do not scan: judge only what unloaded modules left behind.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
@click.pass_context
def run(
    ctx: click.Context, json_file: str | None, exact_stacks: bool, no_kmemleak: bool, command: tuple[str, ...]
) -> None:
    """Trace while CMD runs, let kmemleak scan, and give a verdict on every suspect.

    Exit code: 0 clean, 1 confirmed leaks, 4 evidence incomplete. CMD's own status is reported, not returned.
    """
    from kleaktrace.views import report as view
    from kleaktrace.views.json_document import document, dumps

    if shutil.which(command[0]) is None:
        raise UsageError(f"there is no command {command[0]!r}", "kleaktrace run -- CMD ARG…")
    output = OutputFile(json_file)
    screen = console.make(stderr=output.is_stdout)
    client, gaps = (None, []) if no_kmemleak else _kmemleak()
    for gap in gaps:
        console.make(stderr=True).print(f"kleaktrace: {gap}")
    with EndingBetween() as ending, Session(exact_stacks=exact_stacks) as session:
        if client is not None:
            overwrite_stale_freelists()
        result = _run(command, ending)
        readings: list[list[Suspect]] = []
        if client is not None:
            readings, missing = scan_and_watch(session, client, ending)
            gaps += missing
        suspects = session.judge(readings, tracked_by(client) if client is not None else None)
        session.stop()
        report = session.report(suspects, gaps, result)
    output.write(dumps(document(report)))
    view.show(screen, report)
    ctx.exit(int(report.outcome.exit_code))


def _kmemleak() -> tuple[KmemleakClient | None, list[str]]:
    """The client if kmemleak is on; else why not, what that costs, and what to do."""
    client = KmemleakClient()
    health = diagnose(client)
    if health.state is State.ON:
        return client, []
    return None, [
        f"{health.what}. Without kmemleak nothing says which outstanding memory nobody points to any more: "
        f"only what an unloaded module left behind can be judged. {health.fix}"
    ]


def _run(command: tuple[str, ...], ending: EndingBetween) -> CommandResult:
    """Run the command to its end. Being asked to end ends the command, not the report on it."""
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        raise UsageError(f"{command[0]}: {error.strerror}", "give a command that can be run") from error
    end = child.terminate
    while child.poll() is None:
        try:
            ending.sleep(_POLL_S)
        except KeyboardInterrupt:
            print("kleaktrace: waiting for the command to end; again to kill it", file=sys.stderr)
            end()
            end = child.kill
    return CommandResult(command, child.returncode)
