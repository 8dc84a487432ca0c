# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine says about itself: memory in use and what is left of it, and the cgroups' names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
_ROOT_ID = 1  # fs/kernfs/dir.c numbers from the root on
_MOST_PATHS = 1 << 16


def memory_in_use(meminfo: Path = MEMINFO) -> dict[str, int]:
    """/proc/meminfo: bytes by name."""
    return sizes_by_name(meminfo.read_text())


def sizes_by_name(text: str) -> dict[str, int]:
    """Bytes by name, from the text of /proc/meminfo. Lines that are no sizes are left out."""
    used = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number, unit = [*rest.split(), "", ""][:2]
        if number.isdigit() and unit == "kB":
            used[name] = int(number) * 1024
    return used


def available_memory() -> int:
    """Bytes that can be had without pushing anybody else out, on the machine or in the cgroups we are in."""
    own = ""
    with contextlib.suppress(OSError):  # a kernel without cgroups
        own = Path("/proc/self/cgroup").read_text()
    return min([memory_in_use()["MemAvailable"], *left_in_cgroups(own)])


def left_in_cgroups(own: str, root: Path = CGROUPS) -> Iterator[int]:
    """Bytes below the limit of each cgroup above us that has one (version 2). `own`: /proc/self/cgroup."""
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/")
    group = root / path.lstrip("/")
    while group.is_relative_to(root):
        limit, used = (_number(group / name) for name in ("memory.max", "memory.current"))
        if limit is not None and used is not None:
            yield max(limit - used, 0)
        group = group.parent


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


class CgroupPaths:
    """Paths of cgroups by id: the inode of their directory in the hierarchy of version 2 (kernel/cgroup/cgroup.c)."""

    def __init__(self, root: Path = CGROUPS) -> None:
        # Where both versions are in use, systemd mounts the newer one below.
        roots = [path for path in (root, root / "unified") if (path / "cgroup.controllers").exists()]
        self._root = roots[0] if roots else None
        self._paths = {_ROOT_ID: "/"}

    def path(self, cgroup: int) -> str:
        """The path below the root; `(cgroup ID)` for one that is gone or never was seen."""
        return self._paths.get(cgroup, "") or f"(cgroup {cgroup})"

    def look(self) -> None:
        """Learn the cgroups there are now; those known before keep their paths, unless there are very many."""
        if self._root is None:
            return
        if len(self._paths) > _MOST_PATHS:
            self._paths = {}
        for directory, _, _ in os.walk(self._root):
            with contextlib.suppress(OSError):  # gone meanwhile
                self._paths[Path(directory).stat().st_ino] = f"/{os.path.relpath(directory, self._root)}"
        self._paths[_ROOT_ID] = "/"
