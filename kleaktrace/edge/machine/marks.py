# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks that a traced command sets in its own time: a file that it appends to, known by its environment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kleaktrace.edge.machine.processes import ancestors, environment, started_ns
from kleaktrace.errors import UsageError

VARIABLE = "KLEAKTRACE_MARKS"
_NAME_LENGTH = 200
_MOST_MARKS = 1 << 16


_MOST_BYTES = _MOST_MARKS * 64


class Marks:
    """The marks of one session, in a file that only its owner can write."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> list[tuple[int, str]]:
        """The marks so far: (time in ns by CLOCK_MONOTONIC, name). Raises ValueError for what is no mark."""
        # By the file itself, not by its name: its owner may have put another in its place.
        text = os.pread(self._fd, _MOST_BYTES, 0).decode(errors="replace")
        return [_parsed(line) for line in text.splitlines()[:_MOST_MARKS]]


def _parsed(line: str) -> tuple[int, str]:
    at, _, name = line.partition(" ")
    if not at.isdecimal():
        raise ValueError(f"no mark: {line!r}")
    return int(at), name


@contextmanager
def marks(owner: int | None = None) -> Iterator[Marks]:
    """Take marks of what is started meanwhile. owner: the user (uid) it runs as, if that is not ours."""
    fd, name = tempfile.mkstemp(prefix="kleaktrace-marks-")
    if owner is not None:
        os.fchown(fd, owner, -1)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield Marks(fd)
    finally:
        os.close(fd)
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
        Path(name).unlink(missing_ok=True)


def set_mark(name: str) -> None:
    """Set a mark in the session that we run in, as of when we were started. Raises `UsageError` if we run in none."""
    at = started_ns()
    if not name or len(name) > _NAME_LENGTH or not name.isprintable():
        raise UsageError(f"{name!r} is no name for a mark", f"give 1 to {_NAME_LENGTH} printable characters")
    path = _session_file()
    if path is None:
        raise UsageError(
            "this is not run by `kleaktrace run`: there is nothing to mark", "kleaktrace run -- CMD, and CMD sets marks"
        )
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", f"the session that set {VARIABLE} is over, or is another user's"
        ) from error
    with os.fdopen(fd, "wb") as stream:
        stream.write(f"{at} {name}\n".encode())  # in one write: others append, too


def _session_file() -> str | None:
    """The file of marks: of our own environment, or of the nearest ancestor's (sudo passes none on)."""
    if own := os.environ.get(VARIABLE):
        return own
    found = (environment(pid).get(VARIABLE.encode()) for pid in ancestors(os.getppid()))
    path = next((path for path in found if path), None)
    return None if path is None else os.fsdecode(path)
