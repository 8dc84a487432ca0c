# SPDX-License-Identifier: GPL-2.0-or-later
"""`--capture`: keeps all that a session learns, for `kleaktrace report` and its kin, here or on another machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kleaktrace.session.session import Session

if TYPE_CHECKING:
    from kleaktrace.core.recording import Recording
    from kleaktrace.edge.capture.capture_writer import CaptureWriter
    from kleaktrace.edge.capture.event_queue import EventQueue

capture_option = click.option(
    "--capture",
    metavar="NAME",
    type=click.Path(path_type=Path),
    help="Keep all that is learned in NAME, for `kleaktrace report NAME`.",
)


class Keep:
    """Ends a capture when it is called with the recording that the session came to; without a writer there is none."""

    def __init__(self, writer: CaptureWriter | None) -> None:
        self._writer = writer

    @property
    def failure(self) -> str:
        """Why nothing more can be written; empty: it can."""
        failure = self._writer and self._writer.failure
        return (failure.strerror or str(failure)) if failure else ""

    def __call__(self, recording: Recording) -> None:
        """Write the rest, and say where it is; or what has gone wrong, which is no reason not to report."""
        if self._writer is None:
            return
        from kleaktrace.views.terminal import console

        self._writer.finish(recording)
        path = self._writer.path
        said = f"kept in {path}: kleaktrace report {path}"
        if self._writer.unpacked:
            why = self._writer.unpacked.strerror
            said = f"kept in the directory {path}, of which no file could be made: {why}: kleaktrace report {path}"
        if self.failure:
            said = f"{path} breaks off, as it could not be written: {self.failure}"
        console.say(said)


@contextmanager
def capturing(path: Path | None, session: Session, events: EventQueue | None = None) -> Iterator[Keep]:
    """Keep the session at the path from now on, or nowhere if there is none; and every event, if they are observed.

    Raises `UsageError` if there can be no capture of this name. If it can't be written later, the session goes on.
    """
    if path is None:
        yield Keep(None)
        return
    from kleaktrace.edge.capture.capture_writer import CaptureWriter

    with CaptureWriter(path, session.looking, events) as writer:
        yield Keep(writer)
