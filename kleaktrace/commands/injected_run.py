# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of a command in which an allocation may fail: to its end, or to the one that is made for it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO

from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.core.evidence.injected_runs import RunEnd
from kleaktrace.edge.injection.injector import Injector
from kleaktrace.edge.machine.processes import descendants, is_alive
from kleaktrace.errors import EnvironmentRefusal

_KILL_AFTER_S = 5.0
_POLL_S = 0.1


def run_once(
    injector: Injector,
    command: Sequence[str],
    ending: DeferredInterrupt,
    timeout_s: float | None,
    log: IO[bytes] | None = None,
) -> tuple[int, RunEnd]:
    """Run the command to its end, or ours, or its time's: its status, and which it was.

    What does not end when it is killed, as the kernel does not let it, is left alone: its status is 0 then.
    log: where what it prints goes; None: where ours does.
    """
    command = injector.command(command)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    except OSError as error:
        raise EnvironmentRefusal(f"{command[0]} could not be started: {error}", "see what it says by itself") from error
    fd = os.pidfd_open(child.pid)
    ended = RunEnd.EXITED
    try:
        try:
            _wait(fd, ending, timeout_s)
        except KeyboardInterrupt:
            print("kleaktrace: ending the command", file=sys.stderr)
            ended = RunEnd.INTERRUPTED
        except TimeoutError:
            ended = RunEnd.HUNG
        left = [] if ended is RunEnd.EXITED else end_all(child.pid, partial(_wait, fd, ending, _KILL_AFTER_S))
        injector.exited(child.pid)
    finally:
        os.close(fd)
    status = child.poll()
    return status or 0, RunEnd.STUCK if left else ended


def end_all(root: int, wait: Callable[[], None]) -> list[int]:
    """Ask a process and what it has started to end, then kill them; those that nothing ends.

    wait: until the process has ended, and raises TimeoutError if that takes long.
    """
    left = descendants(root)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(TimeoutError, KeyboardInterrupt):
            wait()
        left = [pid for pid in left if is_alive(pid)]
    deadline = time.monotonic() + _KILL_AFTER_S
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [pid for pid in left if is_alive(pid)]
    return left


def _wait(pidfd: int, ending: DeferredInterrupt, timeout_s: float | None) -> None:
    """Return when the process has ended, at once. Raises TimeoutError, and KeyboardInterrupt."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while not select.select([pidfd], [], [], _POLL_S)[0]:
        ending.sleep(0)
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
