# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace report`: a capture, judged by today's rules and reported as the live command would have."""

from __future__ import annotations

from pathlib import Path

import click

from kleaktrace.commands.options import OutputFile, json_option


@click.command()
@json_option
@click.argument("capture", type=click.Path(path_type=Path))
@click.pass_context
def report(ctx: click.Context, json_file: str | None, capture: Path) -> None:
    """Judge and report what a capture holds: one that --capture or `kleaktrace record` has made, here or elsewhere.

    Needs no privilege. The verdicts are by the rules of this version. Of a capture that breaks off, what came after
    that is a loss.

    Exit code: 0 clean, 1 confirmed leaks, 4 evidence incomplete, or something left that nothing explains.
    """
    from kleaktrace.edge.capture.capture_reader import read_capture
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.documents.report import document
    from kleaktrace.views.terminal import console
    from kleaktrace.views.terminal import report as view

    output = OutputFile(json_file)
    recording = read_capture(capture)
    found = recording.report(recording.judge())
    output.write(dumps(document(found)))
    view.show(console.make(stderr=output.is_stdout), found)
    ctx.exit(int(found.outcome.exit_code))
