# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace pack`: one file of a capture that has not become one, as its session ended badly."""

from __future__ import annotations

from pathlib import Path

import click

from kleaktrace.errors import UsageError


@click.command()
@click.argument("capture", type=click.Path(path_type=Path))
def pack(capture: Path) -> None:
    """Make one file, to be sent, of a capture that is still a directory. It takes the directory's place."""
    from kleaktrace.edge.capture.capture_reader import read_capture
    from kleaktrace.edge.capture.pack import pack as make_one_file

    read_capture(capture)  # it will not be touched if it is none
    if not capture.is_dir():
        raise UsageError(f"{capture} is one file already", f"kleaktrace report {capture}")
    try:
        make_one_file(capture)
    except OSError as error:
        raise UsageError(f"{capture}: {error.strerror}", "make room, or copy it elsewhere first") from error
