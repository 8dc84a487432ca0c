# SPDX-License-Identifier: GPL-2.0-or-later
"""Which call stacks have failed, in a file: what `inject --resume` goes on with after the machine was restarted.

Written anew before each run and after it, and put in place as a whole, so that it is right whenever the machine dies.
It says what is to fail in the run that begins, so that nothing else can be taken for what the machine died of. What had
failed, but was not judged when the machine died, has to fail again; what it died of, never.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kleaktrace.core.evidence.injected_runs import Asked, FailedAllocation
from kleaktrace.core.injection.error_paths import PathOutcome
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
    """The file and what is in it.

    running: a run began in which an allocation was to fail, and did not end. trying: which; None: one that the plain
    run had not asked for. newcomers: whether such may fail: if the machine has died of one, nobody knows of which.
    """

    path: Path
    command: tuple[str, ...]
    known: list[KnownPath] = field(default_factory=list)
    running: bool = False
    trying: FailedAllocation | None = None
    newcomers: bool = True
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
        self.newcomers = bool(held["newcomers"])
        if held["trying"] is not None:
            one = held["trying"]
            stack, asked = tuple(map(str, one["stack"])), Asked(one["asked"])
            self.trying = FailedAllocation(0, stack, int(one["bytes"]), asked, int(one["key"]))
        return self

    def write(self) -> None:
        """Put it in place, on the disk. Raises `UsageError` if that can't be done."""
        content = {
            "inject": _FORMAT,
            "command": list(self.command),
            "running": self.running,
            "trying": None if self.trying is None else _written(self.trying),
            "newcomers": self.newcomers,
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

    @contextmanager
    def run(self, trying: FailedAllocation | None) -> Iterator[None]:
        """While a run goes on in which this is to fail (None: who knows what), and the machine may die."""
        self.running, self.trying = True, trying
        self.write()
        yield
        self.running, self.trying = False, None
        self.write()

    def died(self) -> FailedAllocation | None:
        """What the machine died of in the run that did not end, known from now on; None: nobody knows what it was."""
        deadly = self.trying
        self.running, self.trying = False, None
        if deadly is None:
            self.newcomers = False
        else:
            self.known.append(KnownPath(deadly.key, deadly.stack, PathOutcome.CRASH))
        self.write()
        return deadly

    def add(self, paths: Sequence[KnownPath], finished: bool) -> None:
        """These were judged; they need not fail again. finished: nothing is left to fail."""
        keys = {one.key for one in self.known}
        self.known += [path for path in paths if path.key not in keys]
        self.finished = finished
        self.write()


def _written(one: FailedAllocation) -> dict[str, Any]:
    return {"key": one.key, "stack": one.stack, "bytes": one.bytes, "asked": one.asked}
