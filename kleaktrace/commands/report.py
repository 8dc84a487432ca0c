# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace report`: a capture, judged by today's rules and reported as the live command would have."""

from __future__ import annotations

from pathlib import Path

import click

from kleaktrace.commands.options import OutputFile, json_option, known_option
from kleaktrace.commands.source_lines import debug_dir_option, with_source_lines
from kleaktrace.core.known_leaks import KnownLeaks
from kleaktrace.errors import UsageError


@click.command()
@json_option
@click.option("--html", "html_file", metavar="FILE", help="Write one HTML file that shows everything.")
@click.option("--mail", is_flag=True, help="Print plain text to be mailed to the maintainers of what leaks.")
@click.option("--tree", is_flag=True, help="Print outstanding memory as a tree of its callers.")
@debug_dir_option
@known_option
@click.argument("capture", type=click.Path(path_type=Path))
@click.pass_context
def report(
    ctx: click.Context,
    json_file: str | None,
    html_file: str | None,
    mail: bool,
    tree: bool,
    debug_dirs: tuple[Path, ...],
    known: KnownLeaks,
    capture: Path,
) -> None:
    """Judge and report what a capture holds: one that --capture or `kleaktrace record` has made, here or elsewhere.

    Needs no privilege. The verdicts are by the rules of this version. Of a capture that breaks off, what came after
    that is a loss. Of a capture of `inject`, it tells which failure is to blame. Source lines are shown where there is
    debug information of the same build: what distributions install, or below --debug-dir.

    Exit code: 0 clean, 1 confirmed leaks, 4 evidence incomplete, or something left that nothing explains.
    """
    from kleaktrace.core.injection.report import InjectionReport
    from kleaktrace.edge.capture.capture_reader import read_capture
    from kleaktrace.views.documents import injection
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.documents.report import document
    from kleaktrace.views.terminal import console
    from kleaktrace.views.terminal import injection as injection_view
    from kleaktrace.views.terminal import report as view

    if [html_file is not None, mail, tree].count(True) > 1:
        raise UsageError("only one of --html, --mail and --tree at once", "kleaktrace report --html FILE CAPTURE")
    output, html = OutputFile(json_file), OutputFile(html_file)
    if output.is_stdout and html.is_stdout:
        raise UsageError("--json and --html both go to standard output", "name a file for one of them")
    recording = read_capture(capture)
    found = recording.report(recording.judge(), known)
    shows_all = json_file is not None or html_file is not None
    frames = found.all_frames() if shows_all else set() if tree else found.told_frames()
    walk = recording.walk
    found = with_source_lines(found, frames | (walk.failed_frames() if walk else set()), debug_dirs)
    injected = walk and InjectionReport(found, walk)
    output.write(dumps(injection.document(injected) if injected else document(found)))
    screen = console.make(stderr=output.is_stdout or html.is_stdout)
    if html_file is not None:
        from kleaktrace.views.html.page import page

        html.write(page(recording, found))
    elif mail:
        from kleaktrace.views.terminal.mail import mail as text_to_mail

        click.echo(text_to_mail(recording, found), err=output.is_stdout, nl=False)
    elif tree:
        from kleaktrace.views.terminal.tree import show_tree

        show_tree(screen, found)
    elif injected:
        injection_view.show(screen, injected)
    else:
        view.show(screen, found)
    ctx.exit(int(found.outcome.exit_code))
