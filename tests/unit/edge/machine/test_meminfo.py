# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine says about itself, from files like its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleaktrace.edge.machine.meminfo import CgroupPaths, left_in_cgroups, memory_in_use
from kleaktrace.edge.tracing.tracer import event_ring_size


def test_meminfo_in_bytes(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  8 kB\nSlab:            424020 kB\nHugePages_Total:       3\nodd\nBad: x kB\n")
    assert memory_in_use(file) == {"MemTotal": 8192, "Slab": 424020 * 1024}


def make_root(root: Path) -> Path:
    (root / "system.slice" / "ssh.service").mkdir(parents=True)
    (root / "cgroup.controllers").touch()
    return root


def test_cgroups_by_inode(tmp_path: Path) -> None:
    root = make_root(tmp_path / "cgroup")
    paths = CgroupPaths(root)
    ssh = (root / "system.slice" / "ssh.service").stat().st_ino
    assert paths.path(ssh) == f"(cgroup {ssh})"
    paths.look()
    assert paths.path(ssh) == "/system.slice/ssh.service"
    assert paths.path(1) == "/"
    (root / "system.slice" / "ssh.service").rmdir()
    paths.look()
    assert paths.path(ssh) == "/system.slice/ssh.service", "what it held may outlive it"


def test_a_hierarchy_of_both_versions(tmp_path: Path) -> None:
    root = make_root(tmp_path / "cgroup" / "unified")
    paths = CgroupPaths(tmp_path / "cgroup")
    paths.look()
    assert paths.path((root / "system.slice").stat().st_ino) == "/system.slice"


def test_no_hierarchy_at_all(tmp_path: Path) -> None:
    paths = CgroupPaths(tmp_path)
    paths.look()
    assert paths.path(1) == "/"
    assert paths.path(tmp_path.stat().st_ino).startswith("(cgroup ")


@pytest.mark.parametrize(
    ("memory", "ring"), [(0, 16), (1 << 30, 64), ((2 << 30) - 1, 64), (2 << 30, 128), (1 << 40, 128)]
)
def test_the_ring_is_as_large_as_the_machine_allows(memory: int, ring: int) -> None:
    assert event_ring_size(memory) == ring << 20


def test_each_cgroup_with_a_limit_counts(tmp_path: Path) -> None:
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    for directory, limit, used in ((group, "max", 5), (tmp_path / "a", "1000", 400)):
        (directory / "memory.max").write_text(f"{limit}\n")
        (directory / "memory.current").write_text(f"{used}\n")
    assert list(left_in_cgroups("1:cpu:/x\n0::/a/b\n", tmp_path)) == [600]
    (group / "memory.max").write_text("3\n")
    assert list(left_in_cgroups("0::/a/b\n", tmp_path)) == [0, 600]


def test_without_cgroups_nothing_is_limited(tmp_path: Path) -> None:
    assert list(left_in_cgroups("", tmp_path)) == []
