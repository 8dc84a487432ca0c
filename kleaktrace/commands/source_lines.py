# SPDX-License-Identifier: GPL-2.0-or-later
"""`--debug-dir`, and source lines for what a command is about to show."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kleaktrace.core.report import Kernel, Report
    from kleaktrace.core.source_lines.source_lines import SourceLines
    from kleaktrace.edge.debug_info.lookup import Progress

_PATIENCE_S = 2.0
"""What takes longer shows on a terminal how far it is."""

debug_dir_option = click.option(
    "--debug-dir",
    "debug_dirs",
    metavar="DIR",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look below DIR, too, for vmlinux and modules with debug information, to show source lines.",
)


def with_source_lines(
    report: Report, frames: Iterable[str], directories: Sequence[Path], *, live: bool = False
) -> Report:
    """The report, with the source lines of these frames, as far as there is debug information for them (`look_up`)."""
    lines = source_lines_of(frames, report.kernel, report.build_ids, directories, live=live)
    return replace(report, source_lines=lines)


def source_lines_of(
    frames: Iterable[str],
    kernel: Kernel,
    build_ids: Mapping[str, str],
    directories: Sequence[Path],
    *,
    live: bool = False,
) -> SourceLines:
    """`look_up`, which shows on a terminal how far it is."""
    from kleaktrace.edge.debug_info.lookup import look_up

    with _progress() as progress:
        return look_up(frames, kernel, build_ids, directories, progress, live=live)


@contextmanager
def _progress() -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from kleaktrace.views.terminal import console

    status = console.make(stderr=True).status("looking up source lines")
    late = threading.Timer(_PATIENCE_S, status.start)
    late.start()
    try:
        yield lambda done, total: status.update(f"looking up source lines: {done:,} of {total:,} places")
    finally:
        late.cancel()
        late.join()
        status.stop()
