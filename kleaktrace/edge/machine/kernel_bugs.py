# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel says of bugs of its own while something goes on: its log, and its taint."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kleaktrace.edge.machine.kernel_log import KernelLog

TAINTED = Path("/proc/sys/kernel/tainted")
_DIED = 1 << 7  # TAINT_DIE (Documentation/admin-guide/tainted-kernels.rst)

# What dies or corrupts memory (arch/x86/kernel/dumpstack.c, arch/arm64/kernel/traps.c, lib/bug.c, mm/kasan/report.c).
_FATAL = re.compile(
    r"^(BUG: |kernel BUG at |Oops: |Oops\b|general protection fault|Internal error: |Unable to handle kernel"
    r"|stack segment|double fault|divide error|Kernel panic)"
)
_WARNING = re.compile(
    r"^(WARNING: |list_(add|del) corruption|refcount_t: |sysfs: cannot create duplicate|kobject: .* (tried|does not)"
    r"|INFO: task .* blocked|watchdog: BUG|rcu: INFO: .* stall"
    r"|ODEBUG: |DEBUG_LOCKS_WARN_ON|Trying to vfree|Object already free|page:.*dumped because)"
)
_MOST = 8


class KernelBugs:
    """From its making to `said`. A context manager; without a right to read the log it only sees the taint."""

    def __init__(self) -> None:
        self._log: KernelLog | None = None
        with contextlib.suppress(OSError):
            self._log = KernelLog(from_end=True)
        self._tainted = _tainted()
        self.is_fatal = False
        """Whether, of what was `said`, something is more than a warning."""

    def said(self) -> list[str]:
        """The lines of the log since then that tell of a bug, the first few of them."""
        lines: Sequence[str] = ()
        with contextlib.suppress(OSError):
            lines = self._log.lines() if self._log else ()
        told, fatal = bug_lines(lines)
        self.is_fatal = fatal or bool(_tainted() & ~self._tainted & _DIED)
        return told

    def __enter__(self) -> KernelBugs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._log is not None:
            self._log.__exit__(kind, error, trace)


def bug_lines(log: Sequence[str]) -> tuple[list[str], bool]:
    """Of the log's messages those that tell of a bug, and where it was met; and whether one is more than a warning."""
    told: list[str] = []
    fatal = place_follows = False
    for line in log:
        is_fatal = _FATAL.match(line) is not None
        if is_fatal or _WARNING.match(line):
            told.append(line)
            place_follows = True
        elif (place_follows and line.startswith("RIP: ")) or line.startswith("pc : "):
            told.append(line)
            place_follows = False
        fatal |= is_fatal
    return told[:_MOST], fatal


def _tainted() -> int:
    try:
        return int(TAINTED.read_text())
    except (OSError, ValueError):
        return 0
