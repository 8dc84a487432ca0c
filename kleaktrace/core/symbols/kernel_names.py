# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that turns keys and addresses of events into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import Mask
from kleaktrace.core.events.records import Kind, Rows
from kleaktrace.core.symbols.call_sites import CallSites
from kleaktrace.core.symbols.call_stacks import Stack, Stacks
from kleaktrace.core.symbols.executed_programs import ExecutedPrograms
from kleaktrace.core.symbols.symbol_table import Frame, Symbols, SymbolTable


@dataclass(frozen=True, slots=True)
class CacheName:
    """A slab cache. Sizes in bytes, as `struct kmem_cache` has them.

    reclaimable: SLAB_RECLAIM_ACCOUNT, what the kernel gives back by itself when memory is short.
    """

    key: int
    name: str
    object_size: int
    size: int
    reclaimable: bool = False


class KernelNames:
    """Symbols, stacks, caches and programs known so far."""

    def __init__(self, base: SymbolTable) -> None:
        self.symbols = Symbols(base)
        self.stacks = Stacks(self.symbols)
        self.sites = CallSites(self.symbols)
        self.caches: dict[int, CacheName] = {}
        self.programs = ExecutedPrograms()
        self.build_ids: dict[str, str] = {}
        """Of modules by name, and of the kernel by ""; in hexadecimal digits, as far as they are known."""

    @classmethod
    def restored(
        cls,
        symbols: Symbols,
        stacks: Mapping[int, Stack],
        sites: Sequence[Frame],
        caches: Mapping[int, CacheName],
        programs: ExecutedPrograms,
    ) -> KernelNames:
        """Names that are known from elsewhere; `sites` are what the keys 1, 2, 3, … of places that free stand for."""
        made = cls.__new__(cls)
        made.symbols, made.stacks = symbols, Stacks.restored(symbols, stacks)
        made.sites, made.caches, made.programs = CallSites.restored(symbols, sites), dict(caches), programs
        made.build_ids = {}
        return made

    def cache(self, kind: int, key: int, bytes_alloc: int) -> str:
        """What an allocation came out of: a slab cache's name, or the allocator's.

        The kmalloc event names no cache; its size tells (mm/slab_common.c, kmalloc_info).
        """
        if kind == Kind.VMALLOC:
            return "vmalloc"
        if kind == Kind.PERCPU:
            return "percpu"
        if kind == Kind.PAGES:
            return f"pages (order {key})"
        if kind == Kind.CACHE:
            known = self.caches.get(key)
            return known.name if known else ""
        return kmalloc_cache(bytes_alloc)

    def reclaimable(self, rows: Rows) -> Mask:
        """Which allocations (rows of ledger or tracer) the kernel takes back by itself when memory is short.

        Those of caches that say so (SLAB_RECLAIM_ACCOUNT: inodes, dentries, buffer heads), and kmallocs that ask to
        be counted with them.
        """
        caches = np.array([key for key, cache in list(self.caches.items()) if cache.reclaimable], np.uint64)
        asked = (rows["gfp_flags"] & rows["gfp_flags"].dtype.type(_RECLAIMABLE)) != 0
        found: Mask = asked | (rows["kind"] == Kind.CACHE) & np.isin(rows["cache"], caches)
        return found


_RECLAIMABLE = 0x10
"""___GFP_RECLAIMABLE since v4.4 (include/linux/gfp_types.h)."""


def is_reclaimable(gfp_flags: int) -> bool:
    """Whether an allocation, or a slab cache by its `allocflags`, is one of those that the kernel can take back.

    For kmalloc that means a kmalloc-rcl cache (include/linux/slab.h, kmalloc_type).
    """
    return bool(gfp_flags & _RECLAIMABLE)


def kmalloc_cache(bytes_alloc: int) -> str:
    """Name of the kmalloc cache with objects of this size: kmalloc-192, kmalloc-1k, kmalloc-large."""
    if bytes_alloc > 8192:
        return "kmalloc-large"
    if bytes_alloc >= 1024:
        return f"kmalloc-{bytes_alloc // 1024}k"
    return f"kmalloc-{bytes_alloc}"
