# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/PID/fail-nth: the kernel counts a task's allocations, and lets the n-th fail (lib/fault-inject.c).

The count is the task's own: what it starts has none (kernel/fork.c, copy_process), but the program that it becomes
keeps it. So it reaches CMD itself, and not what CMD starts; it counts what the loader of programs asks for, and
kmemleak's own allocations. Which call failed, the kernel's log tells.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from kleaktrace.core.evidence.injected_runs import Asked, FailedAllocation
from kleaktrace.core.injection.aim import Aim
from kleaktrace.core.injection.failed_stacks import asking_lines
from kleaktrace.core.symbols.symbol_table import FunctionPlace
from kleaktrace.edge.injection.injector import Namer, Told
from kleaktrace.edge.machine.kernel_log import KernelLog
from kleaktrace.errors import EnvironmentRefusal

PROC = Path("/proc")
DEBUGFS = Path("/sys/kernel/debug")
_CAPABILITIES = ("failslab", "fail_page_alloc")
_SETTINGS = {"ignore-gfp-wait": "N", "ignore-gfp-highmem": "N", "min-order": "0"}
_FORCED = re.compile(r"^FAULT_INJECTION: forcing a failure")
_NAME = re.compile(r"name (\w+)")
_FRAME = re.compile(r"^ (\w[\w.]*\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]+\])?)$")
"""One that starts with a question mark is not sure."""
_BUILD_ID = re.compile(r" [0-9a-f]{8,}\]$")
"""With CONFIG_STACKTRACE_BUILD_ID, behind the module's name (kernel/kallsyms.c, __sprint_symbol)."""
_END = " </TASK>"


class FailNthInjector:
    """See `Injector`. Settings in debugfs are as they were when it is closed. Raises `EnvironmentRefusal`."""

    means = "/proc/PID/fail-nth (counts all that CMD itself asks for, not what it starts)"
    sees_stacks = False

    def __init__(self, proc: Path = PROC, debugfs: Path = DEBUGFS) -> None:
        if not (proc / "self" / "fail-nth").exists():
            raise EnvironmentRefusal("this kernel has no /proc/PID/fail-nth", "boot one with CONFIG_FAULT_INJECTION")
        self._proc = proc
        self._wanted = 0
        self._fired = False
        self._pid = 0
        self._log: KernelLog | None = None
        self._before: dict[Path, str] = {}
        for capability, (setting, value) in product(_CAPABILITIES, _SETTINGS.items()):
            file = debugfs / capability / setting
            try:
                self._set(file, value)
            except OSError as error:
                self.close()
                raise EnvironmentRefusal(f"{file}: {error.strerror}", "boot without lockdown") from error

    def _set(self, file: Path, value: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._before[file] = file.read_text()
            file.write_text(value)

    def begin(self, run: int, aim: Aim, wanted: int = 0) -> None:
        """As `Injector` has it; only by number."""
        self._wanted = wanted if aim is Aim.NUMBER else 0
        self._fired = False
        self._log = KernelLog(from_end=True)

    def only_through(self, places: Sequence[FunctionPlace]) -> None:
        """Not by this means."""
        raise NotImplementedError

    def has_failed(self, keys: Sequence[int]) -> None:
        """Not by this means."""
        raise NotImplementedError

    def command(self, command: Sequence[str]) -> Sequence[str]:
        """The same, by a shell that has the number set for itself and becomes the command."""
        if not self._wanted:
            return command
        return ("/bin/sh", "-c", f'echo {self._wanted} > /proc/self/fail-nth && exec "$@"', "sh", *command)

    def exited(self, pid: int) -> None:
        """Whether the count has come to its end: a process keeps it until somebody has waited for it."""
        self._pid = pid
        with contextlib.suppress(OSError, ValueError):
            self._fired = bool(self._wanted) and int((self._proc / str(pid) / "fail-nth").read_text()) == 0

    def end(self, name: Namer) -> Told:
        """As `Injector` has it."""
        log, self._log = self._log, None
        lines: list[str] = []
        if log is not None:
            with log, contextlib.suppress(OSError):
                lines = log.lines()
        failed = forced_failure(lines)
        if failed is None and self._fired:  # without a word, as who asked with __GFP_NOWARN wants it
            failed = FailedAllocation(time.monotonic_ns(), (), 0)
        return Told(failed, pid=self._pid)

    def close(self) -> None:
        """As `Injector` has it."""
        while self._before:
            file, value = self._before.popitem()
            with contextlib.suppress(OSError):
                file.write_text(value)


def forced_failure(log: Sequence[str]) -> FailedAllocation | None:
    """The failure that the kernel's log tells of (lib/fault-inject.c, fail_dump); None: of none."""
    begin = next((number for number, line in enumerate(log) if _FORCED.match(line)), None)
    if begin is None:
        return None
    frames: list[str] = []
    asked = Asked.SLAB
    for line in log[begin:]:
        if (named := _NAME.match(line)) and named[1] == "fail_page_alloc":
            asked = Asked.PAGES
        if line.startswith(_END):
            break
        if frame := _FRAME.match(line):
            frames.append(_BUILD_ID.sub("]", frame[1]))
    return FailedAllocation(time.monotonic_ns(), asking_lines(frames), 0, asked)
