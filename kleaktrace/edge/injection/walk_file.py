# SPDX-License-Identifier: GPL-2.0-or-later
"""Which call stacks have failed, in a file: what `inject --resume` goes on with after the machine was restarted.

Written anew before each run and after it, and put in place as a whole, so that it is right whenever the machine dies.
What had failed, but was not judged when the machine died, has to fail again; what it died of, never.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kleaktrace.errors import UsageError

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class KnownPath:
    """A call stack that has failed: its key, its frames, and what came of it (a `PathOutcome`)."""

    key: int
    stack: tuple[str, ...]
    outcome: str


@dataclass
class WalkFile:
    """The file and what is in it. running: a run began in which an allocation was to fail, and did not end."""

    path: Path
    command: tuple[str, ...]
    known: list[KnownPath] = field(default_factory=list)
    running: bool = False
    finished: bool = False

    @classmethod
    def opened(cls, path: Path, command: Sequence[str]) -> WalkFile:
        """What the file has, or a new one. Raises `UsageError` if it can't be used, or is another command's."""
        made = cls(path, tuple(command))
        try:
            held = json.loads(path.read_text())
        except FileNotFoundError:
            made.write()
            return made
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path} can't be read: {error}", "give a file that an earlier `inject` has written"
            ) from error
        try:
            return made._filled(held)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{path} is of no walk", "give another file, or one that is not there yet") from error

    def _filled(self, held: Any) -> WalkFile:
        if held["inject"] != _FORMAT:
            raise ValueError
        if tuple(held["command"]) != self.command:
            raise UsageError(f"{self.path} is of another command: {' '.join(held['command'])}", "give another file")
        self.known = [KnownPath(int(one["key"]), tuple(one["stack"]), str(one["outcome"])) for one in held["known"]]
        self.running = bool(held["running"])
        return self

    def write(self) -> None:
        """Put it in place, on the disk. Raises `UsageError` if that can't be done."""
        content = {
            "inject": _FORMAT,
            "command": list(self.command),
            "running": self.running,
            "finished": self.finished,
            "known": [asdict(one) for one in self.known],
        }
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(fd)
            new.replace(self.path)
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}", "give a file that can be written") from error

    def begin_run(self) -> None:
        """A run begins in which something is to fail."""
        self.running = True
        self.write()

    def end_run(self) -> None:
        """It ended, and the machine is still there."""
        self.running = False
        self.write()

    def add(self, paths: Sequence[KnownPath], finished: bool) -> None:
        """These were judged; they need not fail again. finished: nothing is left to fail."""
        keys = {one.key for one in self.known}
        self.known += [path for path in paths if path.key not in keys]
        self.finished = finished
        self.running = False
        self.write()
