# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the command that is traced: once or in rounds, to its end or to ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.core.evidence.rounds import RoundSeries, repeated
from kleaktrace.core.report import CommandResult
from kleaktrace.edge.machine.invoking_user import InvokingUser
from kleaktrace.edge.machine.marks import VARIABLE
from kleaktrace.edge.machine.processes import signal_all
from kleaktrace.errors import UsageError

_POLL_S = 0.02
_KILL_AFTER_S = 5.0
"""What has been told to end has so long to do it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is run, as whom (None: as we are), and where its output goes (None: where ours does)."""

    command: tuple[str, ...]
    user: InvokingUser | None = None
    log: IO[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What it is started with: the user's own, and where marks are set."""
        if self.user is None:
            return dict(os.environ)
        marks = {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
        return {**self.user.environment, **marks}

    def refuse_missing(self) -> None:
        """Raise `UsageError` if there is no such command, where whoever runs it looks for it."""
        name = self.command[0]
        if shutil.which(name, path=self.environment.get("PATH", os.defpath)) is None:
            raise UsageError(f"there is no command {name!r}", "kleaktrace run -- CMD ARG…")

    def start(self) -> subprocess.Popen[bytes]:
        """Start it. Raises `UsageError` if it can't be."""
        user = self.user
        try:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=self.log,
                stderr=self.log,
                user=None if user is None else user.uid,
                group=None if user is None else user.gid,
                extra_groups=None if user is None else user.groups,
            )
        except OSError as error:
            raise UsageError(f"{self.command[0]}: {error.strerror}", "give a command that can be run") from error


def opened_log(path: str | None, user: InvokingUser | None = None, goes_on: bool = False) -> IO[bytes] | None:
    """What a command prints to; a new file belongs to whoever it runs as. Raises `UsageError` if it can't be opened.

    goes_on: keep what the file has.
    """
    if path is None:
        return None
    try:
        is_new = not Path(path).exists()
        stream = Path(path).open("ab" if goes_on else "wb", buffering=0)  # noqa: SIM115  the caller closes it
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "give a file that can be written") from error
    if user is not None and is_new:
        os.fchown(stream.fileno(), user.uid, user.gid)
    return stream


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it. `rounds` are the runs that were whole; times are ns, CLOCK_MONOTONIC."""

    result: CommandResult
    rounds: RoundSeries
    ended_ns: int


def run_command(
    launch: Launch,
    ending: DeferredInterrupt,
    repeat: int,
    timeout_s: float | None,
    progress: Callable[[int], None],
) -> Ran:
    """Run the command so many times; `progress` is told how many rounds are done.

    Being asked to end ends the command, not the report on it; so does its time. What was not whole is no round.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    starts: list[int] = []
    statuses: list[int] = []
    cut = timed_out = False
    while len(starts) < repeat and not cut:
        starts.append(time.monotonic_ns())
        status, cut, timed_out = _run_once(launch, ending, deadline)
        statuses.append(status)
        progress(len(starts))
    ended_ns = time.monotonic_ns()
    whole = starts[: -1 if cut else None]
    failed = [status for status in statuses if status]
    result = CommandResult(
        launch.command, failed[0] if failed else 0, runs=len(starts), failed_runs=len(failed), timed_out=timed_out
    )
    return Ran(result, repeated(whole, starts[-1] if cut else ended_ns), ended_ns)


def _run_once(launch: Launch, ending: DeferredInterrupt, deadline: float | None) -> tuple[int, bool, bool]:
    """Run it to its end: its status, whether it was cut short, and whether that was for want of time."""
    child = launch.start()
    cut = timed_out = False
    end = child.terminate
    while child.poll() is None:
        try:
            ending.sleep(_POLL_S)
        except KeyboardInterrupt:
            print("kleaktrace: waiting for the command to end; again to kill it", file=sys.stderr)
            cut = True
            end()
            end = child.kill
        if deadline is not None and time.monotonic() > deadline:
            number = signal.SIGKILL if timed_out else signal.SIGTERM
            signal_all(child.pid, number)
            cut = timed_out = True
            deadline = time.monotonic() + _KILL_AFTER_S
    return child.returncode, cut, timed_out
