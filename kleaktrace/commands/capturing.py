# SPDX-License-Identifier: GPL-2.0-or-later
"""`--capture`: keeps all that a session learns, for `kleaktrace report` and its kin, here or on another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kleaktrace.session.session import Session

if TYPE_CHECKING:
    from kleaktrace.core.recording import Recording

capture_option = click.option(
    "--capture",
    metavar="NAME",
    type=click.Path(path_type=Path),
    help="Keep all that is learned in NAME, for `kleaktrace report NAME`.",
)

Keep = Callable[["Recording"], None]
"""Ends the capture: this recording is what the session came to."""


@contextmanager
def capturing(path: Path | None, session: Session) -> Iterator[Keep]:
    """Keep the session at the path from now on, or nowhere if there is none.

    Raises `UsageError` if there can be no capture of this name. If it can't be written later, that is said, and the
    session goes on.
    """
    if path is None:
        yield lambda recording: None
        return
    from kleaktrace.edge.capture.capture_writer import CaptureWriter
    from kleaktrace.views.terminal import console

    with CaptureWriter(path, session.looking) as writer:

        def keep(recording: Recording) -> None:
            writer.finish(recording)
            said = f"kept in {path}: kleaktrace report {path}"
            if writer.failure is not None:
                said = f"{path} breaks off, it could not be written: {writer.failure.strerror or writer.failure}"
            console.make(stderr=True).print(f"kleaktrace: {said}", markup=False, soft_wrap=True)

        yield keep
