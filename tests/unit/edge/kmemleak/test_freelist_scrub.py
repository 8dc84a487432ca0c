# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory may be passed through, and what the kernel's accounts of it mean."""

from __future__ import annotations

import os

from kleaktrace.edge.kmemleak.freelist_scrub import _free_unmovable

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
