# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what tells why kmemleak is off or absent here; `core/kmemleak/diagnosis.py` decides."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

from kleaktrace.core.kmemleak.diagnosis import KernelEnvironment
from kleaktrace.edge.machine.kernel_log import KernelLog


def kernel_environment() -> KernelEnvironment:
    """Read the kernel's command line, config, log and lockdown mode, as far as this user may; never raises."""
    return KernelEnvironment(
        _read(Path("/proc/cmdline")) or "",
        _config(),
        _log(),
        _lockdown(_read(Path("/sys/kernel/security/lockdown")) or ""),
        privileged=os.geteuid() == 0,
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="backslashreplace")
    except OSError:
        return None


def _config() -> str | None:
    release = os.uname().release
    try:
        return gzip.decompress(Path("/proc/config.gz").read_bytes()).decode(errors="replace")
    except (OSError, EOFError, ValueError):
        pass
    return _read(Path(f"/boot/config-{release}")) or _read(Path(f"/lib/modules/{release}/config"))


def _log() -> list[str] | None:
    try:
        with KernelLog() as log:
            return log.lines()
    except OSError:
        return None


def _lockdown(text: str) -> str:
    """Return the mode in brackets of `none [integrity] confidentiality`."""
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen else "none"
