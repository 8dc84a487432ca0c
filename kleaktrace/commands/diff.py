# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace diff`: what has changed from one capture to another. Needs no privilege."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kleaktrace.commands.options import OutputFile, json_option, size_in_bytes
from kleaktrace.errors import UsageError

if TYPE_CHECKING:
    from kleaktrace.core.comparison.comparison import Operations
    from kleaktrace.core.comparison.thresholds import FailOn

_MOST_DIGITS = 15


@click.command()
@click.option(
    "--by",
    type=click.Choice(["stack", "function"]),
    default="stack",
    show_default=True,
    help="When call stacks are the same: by functions and offsets in them, or, if the code itself has changed, by "
    "functions only.",
)
@click.option(
    "--per",
    metavar="OPERATIONS",
    help="Compare by operation, not by second: how many there were in each, or BEFORE:AFTER if that differs.",
)
@click.option(
    "--fail-on",
    metavar="WHAT",
    multiple=True,
    help="Exit with 1 on a new-leak, which is confirmed in AFTER and was not in BEFORE; or on growth=RATE, if a call "
    "stack surely grows faster than in BEFORE by more bytes a second (or operation), such as 512, 4K or 1M. Can be "
    "given twice.",
)
@json_option
@click.option("--html", "html_file", metavar="FILE", help="Write one HTML file with a flame graph of what has changed.")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.pass_context
def diff(
    ctx: click.Context,
    by: str,
    per: str | None,
    fail_on: tuple[str, ...],
    json_file: str | None,
    html_file: str | None,
    before: Path,
    after: Path,
) -> None:
    """Compare two captures: which call stacks leave more memory behind in AFTER than in BEFORE, and which less.

    Call stacks are the same by module, function and offset, across boots. What they leave is compared by time. Every
    difference has an interval, and all of these hold at once with 95 % confidence: what is within its interval is not
    listed. Lost events make it wider.

    Exit code: 0 nothing that --fail-on names, 1 there is, 4 that can't be told, as the evidence is incomplete.
    """
    from kleaktrace.core.comparison.common_stacks import CompareBy
    from kleaktrace.core.comparison.compare import compare
    from kleaktrace.core.comparison.thresholds import conclude
    from kleaktrace.edge.capture.capture_reader import read_capture
    from kleaktrace.views.documents.comparison import document
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.terminal import comparison as view
    from kleaktrace.views.terminal import console

    operations, limits = _operations(per), _fail_on(fail_on)
    output, html = OutputFile(json_file), OutputFile(html_file)
    if output.is_stdout and html.is_stdout:
        raise UsageError("--json and --html both go to standard output", "name a file for one of them")
    found = compare(read_capture(before), read_capture(after), CompareBy(by), operations)
    conclusion = conclude(found, limits)
    output.write(dumps(document(found, conclusion)))
    if html_file is not None:
        from kleaktrace.views.html.comparison_page import comparison_page

        html.write(comparison_page(found, conclusion, limits))
    view.show(console.make(stderr=output.is_stdout or html.is_stdout), found, conclusion, limits)
    ctx.exit(int(conclusion.exit_code))


def _operations(per: str | None) -> Operations | None:
    from kleaktrace.core.comparison.comparison import Operations

    if per is None:
        return None
    before, colon, after = per.partition(":")
    counts = [before, after if colon else before]
    if not all(count.isascii() and count.isdigit() and len(count) <= _MOST_DIGITS and int(count) for count in counts):
        raise UsageError(f"--per {per} is no number of operations", "--per 100 for both, or --per 100:120")
    return Operations(*map(float, counts))


def _fail_on(given: tuple[str, ...]) -> FailOn:
    from kleaktrace.core.comparison.thresholds import FailOn

    new_leak, growth = False, None
    for what in given:
        name, _, rate = what.partition("=")
        if what == "new-leak":
            new_leak = True
        elif name == "growth" and rate:
            growth = float(size_in_bytes(rate))
        else:
            raise UsageError(f"--fail-on {what} is not known", "--fail-on new-leak, or --fail-on growth=RATE")
    return FailOn(new_leak, growth)
