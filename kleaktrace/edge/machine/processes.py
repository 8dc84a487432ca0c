# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes of user space, as /proc tells of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def living() -> frozenset[int]:
    """The processes (tgid, as we see them) that there are, without kernel threads and what is only waited for."""
    return frozenset(pid for pid in _all() if _has_memory(pid))


def descendants(root: int) -> list[int]:
    """The process and those that it and its own have started; parents first."""
    children: dict[int, list[int]] = {}
    for pid in _all():
        children.setdefault(_parent(pid), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def ancestors(pid: int) -> Iterator[int]:
    """The process, its parent, and so on."""
    while pid > 1:
        yield pid
        pid = _parent(pid)


def signal_all(root: int, number: signal.Signals) -> None:
    """Send a signal to a process and what it has started."""
    for pid in descendants(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Whether it has not ended yet; what has, and is only to be waited for, is not alive."""
    with contextlib.suppress(OSError, IndexError):
        return (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False


def environment(pid: int) -> dict[bytes, bytes]:
    """The environment that a process was started with; empty where we may not see it."""
    with contextlib.suppress(OSError):
        pairs = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        return {name: value for name, _, value in (pair.partition(b"=") for pair in pairs) if name}
    return {}


def program(pid: int) -> str:
    """The path of the program that a process runs; empty where we may not see it, and of kernel threads."""
    with contextlib.suppress(OSError):
        return str((PROC / str(pid) / "exe").readlink())
    return ""


def started_ns() -> int:
    """When our process was started (ns, CLOCK_MONOTONIC): up to a hundredth of a second late, never too early.

    Python takes its time after that; what happened before must not seem to come later.
    """
    ticks = int((PROC / "self" / "stat").read_bytes().rpartition(b")")[2].split()[19])  # since boot, proc_pid_stat(5)
    since_boot_ns = (ticks + 1) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - since_boot_ns
    return time.monotonic_ns() - max(age_ns, 0)


def _all() -> Iterator[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())


def _has_memory(pid: int) -> bool:
    """Whether it has memory of its own: kernel threads and zombies have none (Documentation/filesystems/proc.rst)."""
    with contextlib.suppress(OSError):
        return b"\nVmSize:" in (PROC / str(pid) / "status").read_bytes()
    return False


def _parent(pid: int) -> int:
    """Its parent; 0: it has gone, or there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name before it may hold anything, closing brackets too.
        return int((PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[1])
    return 0
