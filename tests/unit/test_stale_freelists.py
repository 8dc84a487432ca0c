"""How much memory may be passed through, and what the kernel's accounts of it mean."""

from __future__ import annotations

import os
from pathlib import Path

from kleaktrace.edge.stale_freelists import _free_unmovable, _left_in_cgroups

PAGE = os.sysconf("SC_PAGE_SIZE")
PAGETYPEINFO = """\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0      1      2
Node    0, zone      DMA, type    Unmovable      1      0      3
Node    0, zone      DMA, type      Movable    100    100    100
Node    0, zone   Normal, type    Unmovable >100000      2      0
Node    0, zone   Normal, type  Reclaimable      7      7      7

Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic
Node 0, zone      DMA            1            7            0            0
"""


def test_only_the_unmovable_pages_count() -> None:
    assert _free_unmovable(PAGETYPEINFO) == (1 + 3 * 4 + 100000 + 2 * 2) * PAGE
    assert _free_unmovable("") == 0


def test_each_cgroup_with_a_limit_counts(tmp_path: Path) -> None:
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    for directory, limit, used in ((group, "max", 5), (tmp_path / "a", "1000", 400)):
        (directory / "memory.max").write_text(f"{limit}\n")
        (directory / "memory.current").write_text(f"{used}\n")
    assert list(_left_in_cgroups("1:cpu:/x\n0::/a/b\n", tmp_path)) == [600]
    (group / "memory.max").write_text("3\n")
    assert list(_left_in_cgroups("0::/a/b\n", tmp_path)) == [0, 600]


def test_without_cgroups_nothing_is_limited(tmp_path: Path) -> None:
    assert list(_left_in_cgroups("", tmp_path)) == []
