# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocks of pages, which need not be freed as they were allocated.

The page allocator gives out blocks of 2^order pages that lie at a multiple of their size. A block may be split
meanwhile, without an event, and its parts be freed one by one (mm/page_alloc.c: split_page, alloc_pages_exact, and
__free_pages where somebody else has a reference to the first page). So a free says which pages come back, and not which
block they were of.

Blocks go by the address of their first page's struct page, with the order in its low bits (bpf/pages.c), hidden: names
of pages that lie side by side are `_STEP` apart.
"""

from __future__ import annotations

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import BLOCK_ORDER_BITS

_STEP = np.uint64(64)
_ORDER = np.uint64((1 << BLOCK_ORDER_BITS) - 1)
MOST_ORDER = 12
"""MAX_PAGE_ORDER is 10 where pages have 4 KiB (include/linux/mmzone.h). The largest blocks elsewhere are not split: the
programs know of no more of their pages (bpf/pages.c, MARKS)."""


def block_orders(names: U64) -> U64:
    """The orders of blocks by their names."""
    return ~names & _ORDER


def blocks_around(names: U64) -> U64:
    """The names of all larger blocks that have the blocks in them: a row for each, `MOST_ORDER` columns; 0: none."""
    orders = np.arange(1, MOST_ORDER + 1, dtype=np.uint64)
    first_pages = (~names & ~_ORDER)[:, None] & ~((_STEP << orders) - np.uint64(1))[None, :]
    around: U64 = np.where(orders[None, :] > block_orders(names)[:, None], ~(first_pages | orders), np.uint64(0))
    return around


def blocks_inside(name: int) -> U64:
    """The names of all smaller blocks in one."""
    whole = np.array([name], np.uint64)
    order = int(block_orders(whole)[0])
    return np.concatenate([pieces(name, smaller) for smaller in range(order)] or [np.zeros(0, np.uint64)])


def pieces(name: int, order: int) -> U64:
    """The names of the blocks of an order that one of a larger order consists of."""
    whole = np.array([name], np.uint64)
    count = 1 << int(block_orders(whole)[0]) - order
    first_pages = (~whole & ~_ORDER) + (np.arange(count, dtype=np.uint64) * (_STEP << np.uint64(order)))
    made: U64 = ~(first_pages | np.uint64(order))
    return made
