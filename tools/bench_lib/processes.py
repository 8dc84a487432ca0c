# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of a running tracer: its processor time, memory, probes and BPF programs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Processor time so far, of all threads."""
    return _state(Path(f"/proc/{pid}/stat"))[1]


def exact_cpu_s(pid: int) -> float:
    """The same to the nanosecond, of the threads there are, if the kernel tells (CONFIG_SCHED_INFO)."""
    files = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9 if files else cpu_s(pid)


def _state(stat: Path) -> tuple[str, float]:
    """State and processor time (proc(5): state, utime and stime)."""
    fields = stat.read_text().rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / _TICKS


def resting_after_s(pid: int) -> float | None:
    """How long the main thread has run in all, if it rests now; None if it is at work, or has ended."""
    try:
        state, run_s = _state(Path(f"/proc/{pid}/task/{pid}/stat"))
    except OSError:
        return None
    return run_s if state == "S" else None


def resident_bytes(pid: int) -> int:
    """Anonymous memory: what is not a file's nor shared, as the kernel's ring is."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def fdinfo(pid: int, key: str) -> list[str]:
    """The values of one key in all of a process's /proc/PID/fdinfo."""
    found = []
    # Files come and go while we look.
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                for line in file.read_text().splitlines():
                    if line.startswith(key + ":"):
                        found.append(line.split(":", 1)[1].strip())
    return found
