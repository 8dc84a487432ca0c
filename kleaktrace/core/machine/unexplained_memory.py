# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that is gone from the machine, by its own counters, and that no event explains.

Leaks of whole pages are in no table: neither kmemleak nor the traced events tell of them. But a page is either in one
of the kernel's counters or it is not, and what is in none grows by exactly what was leaked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from kleaktrace.core.events.records import Kind
from kleaktrace.core.ledger.tally import Tally

_MIB = 1 << 20

_PAGES_MIB, _PAGES_MIB_PER_CPU = 1.0, 0.5
"""How many unaccounted pages may come and go.

Per CPU: folios on their way to the LRU lists (a batch of 31, mm/swap.c), a batch on its way between a CPU's list and
the free ones while we read (63 pages, mm/page_alloc.c), two page fragments of 32 KiB (mm/page_frag_cache.c): 0.45 MiB.
Measured in a guest of 2 CPUs and 2 GiB: at most 60 KiB after each of 26 innocent commands (modules, compilers, many
processes, sockets, threads, tmpfs); on a busy host of 2 CPUs and 24 GiB 0.3 MiB, while processes took 500 MiB. Leaks of
4, 8 and 20 MiB were seen to within 50 KiB, and so was a BPF ring that another program held: what a program that still
runs has in the kernel's own pages is gone as long as it runs.
"""
_SLAB_MIB, _SLAB_MIB_PER_CPU = 2.0, 0.25
"""Free objects in a CPU's own slabs count as used (mm/slub.c, get_slabinfo), and every cache has some.

Measured there: 0.35 MiB after 20 processes at a time, else at most 0.15 MiB; less when caches are shrunk first.
"""
_AREAS_MIB, _AREAS_MIB_PER_CPU = 1.0, 0.0625
"""vmalloc keeps two stacks of dead tasks for each CPU (kernel/fork.c, NR_CACHED_STACKS), and the per-CPU allocator four
empty pages of each (mm/percpu.c, PCPU_EMPTY_POP_PAGES_HIGH). Measured there: 32 KiB."""

_SITES = 3
_WORTH_NAMING = 0.1
"""So much of what is missing a call site must have taken to be named."""

# Lines of /proc/meminfo (fs/proc/meminfo.c) that count different pages. VmallocUsed is what vmalloc itself took, and
# neither vmap nor ioremap (mm/vmalloc.c, nr_vmalloc_pages); large kmallocs are in SUnreclaim (mm/slub.c).
_COUNTED = (
    *("SReclaimable", "SUnreclaim", "PageTables", "SecPageTables", "VmallocUsed", "Percpu"),
    *("ShadowCallStack", "Hugetlb", "Bounce", "WritebackTmp"),
)
_ON_LISTS = ("Active(anon)", "Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable")
_OF_USERS = ("AnonPages", "Cached", "Buffers")

_COUNTED_FILES = (
    *("mm/slub.c", "mm/vmalloc.c", "mm/percpu-vm.c", "mm/memory.c", "mm/filemap.c", "mm/readahead.c", "mm/shmem.c"),
    *("mm/huge_memory.c", "mm/swap_state.c", "mm/hugetlb.c", "mm/zsmalloc.c", "pgtable.c", "asm-generic/pgalloc.h"),
)
"""Call sites of allocinfo in these take pages that the counters above know."""


@dataclass(frozen=True, slots=True)
class SlabUse:
    """What slab caches hold, in bytes, by /proc/slabinfo: objects in use, and the pages they are in."""

    objects: int
    pages: int


@dataclass(frozen=True, slots=True)
class SiteUse:
    """What a call site has taken and not given back: bytes, and in how many allocations (0: not known)."""

    bytes: int
    allocations: int = 0


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """A reading of the machine's counters, in bytes.

    meminfo: /proc/meminfo by name. on_cpu_lists: free pages on the CPUs' own lists, which MemFree leaves out.
    zspages, iommu: pages that only /proc/vmstat counts. slabs, kmemleak_slabs: caches, without those of kmemleak's own
    records, and those; None where /proc/slabinfo can't be read. stacks_in_vmalloc: VmallocUsed has the kernel stacks
    too (CONFIG_VMAP_STACK). sites: by call site, where the kernel profiles allocations (CONFIG_MEM_ALLOC_PROFILING).
    sites_at_unload: the same of modules that went, summed up over their unloads. bpf_rings: BPF ring buffers, which are
    in no counter: another tracer that starts takes a hundred MiB.
    """

    meminfo: Mapping[str, int]
    cpus: int
    page: int = 4096
    on_cpu_lists: int = 0
    zspages: int = 0
    iommu: int = 0
    bpf_rings: int = 0
    slabs: SlabUse | None = None
    kmemleak_slabs: SlabUse | None = None
    stacks_in_vmalloc: bool = False
    sites: Mapping[str, SiteUse] = field(default_factory=dict)
    sites_at_unload: Mapping[str, SiteUse] = field(default_factory=dict)

    @property
    def unaccounted(self) -> int:
        """Pages that are in no counter: MemTotal without all that is free or has a known use."""
        counted = self._sum(_COUNTED) + self.meminfo["MemFree"] + self.on_cpu_lists
        counted += self.iommu + self.bpf_rings
        # What is left of a split huge page is on the lists only, and a page on its way there is mapped only.
        counted += max(self._sum(_ON_LISTS), self._sum(_OF_USERS))
        counted += max(self.zspages, self.meminfo.get("Zswap", 0))
        counted += 0 if self.stacks_in_vmalloc else self.meminfo.get("KernelStack", 0)
        counted += max(self.meminfo.get("KReclaimable", 0) - self.meminfo.get("SReclaimable", 0), 0)
        return self.meminfo["MemTotal"] - counted

    @property
    def slab_in_use(self) -> int | None:
        """Objects in use, without kmemleak's records; and large kmallocs, which have whole pages and no cache."""
        if self.slabs is None or self.kmemleak_slabs is None:
            return None
        return self.slabs.objects + max(self._sum(("Slab",)) - self.slabs.pages - self.kmemleak_slabs.pages, 0)

    def allowed(self, mib: float, mib_per_cpu: float) -> float:
        """Bytes that may come and go on a machine with so many CPUs."""
        return (mib + mib_per_cpu * self.cpus) * _MIB

    def _sum(self, names: Sequence[str]) -> int:
        return sum(self.meminfo.get(name, 0) for name in names)


@dataclass(frozen=True, slots=True)
class Explained:
    """Bytes that are outstanding, by allocator; None: its allocations or its frees could not be seen."""

    slab: int | None
    vmalloc: int | None
    percpu: int | None
    pages: int | None = None
    """Those that no other allocator took."""
    rounding: int = 0
    """What vmalloc may have taken on top of its own, to map it by huge pages (mm/vmalloc.c, VM_ALLOW_HUGE_VMAP)."""

    def since(self, before: Explained) -> Explained:
        """How much more than before."""
        return Explained(
            _more(self.slab, before.slab),
            _more(self.vmalloc, before.vmalloc),
            _more(self.percpu, before.percpu),
            _more(self.pages, before.pages),
            max(self.rounding - before.rounding, 0),
        )


def explained_by(tally: Tally, page: int = 4096) -> Explained:
    """What outstanding allocations explain, if all kinds can be seen. page: bytes."""
    kinds = tally.rows["kind"]
    huge = page * page // 8  # what one table of page tables maps
    sizes = tally.rows["bytes_alloc"].astype(np.int64)
    rounded = (kinds == Kind.VMALLOC) & (sizes >= huge)
    slab, vmalloc, percpu, pages = (
        int(tally.bytes[np.isin(kinds, of_allocator)].sum())
        for of_allocator in ((Kind.KMALLOC, Kind.CACHE), (Kind.VMALLOC,), (Kind.PERCPU,), (Kind.PAGES,))
    )
    return Explained(slab, vmalloc, percpu, pages, int((tally.counts * (-sizes % huge))[rounded].sum()))


class MissingMemory(StrEnum):
    """By whom memory that is gone was taken. The values are part of captures and JSON documents."""

    PAGES = "pages"
    """By nobody whom a counter knows."""
    TRACED_PAGES = "traced pages"
    """Pages that events tell of, and nothing of whether somebody still needs them: see `core.machine.traced_pages`."""
    SLAB = "slab"
    VMALLOC = "vmalloc"
    PERCPU = "percpu"


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Memory that is gone and that no event explains.

    meaning: what that says, one sentence. sites: the call sites that took it, as far as the kernel tells, and their
    bytes, the most first.
    """

    name: MissingMemory
    bytes: int
    meaning: str
    sites: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        by = ", ".join(f"{_mib(taken)} by {site}" for site, taken in self.sites)
        return f"{_mib(self.bytes)} {self.meaning}" + (f" ({by})" if by else "")


def _mib(size: int) -> str:
    return f"{size / _MIB:.0f} MiB" if size >= 10 * _MIB else f"{size / _MIB:.1f} MiB"


def unexplained(before: MachineMemory, after: MachineMemory, more: Explained) -> list[Unexplained]:
    """What went between two readings, beyond what comes and goes anyhow.

    `more`: what is outstanding by our table at the second reading, less what was at the first.
    """
    return [*_pages(before, after, more), *_slab(before, after, more), *_areas(before, after, more)]


def _pages(before: MachineMemory, after: MachineMemory, more: Explained) -> Iterator[Unexplained]:
    gone = after.unaccounted - before.unaccounted
    allowed = after.allowed(_PAGES_MIB, _PAGES_MIB_PER_CPU)
    meaning = "of pages are gone, not by slab or vmalloc: kmemleak and this trace don't see pages"
    if more.pages is not None:
        held = min(gone, more.pages)
        if held > allowed:
            unknown = "of traced pages are outstanding, of which kmemleak knows nothing"
            yield Unexplained(MissingMemory.TRACED_PAGES, held, unknown)
        gone -= more.pages
        meaning = "more pages are gone than the traced allocations explain: some came by a path without an event"
    if gone > allowed:
        yield Unexplained(MissingMemory.PAGES, gone, meaning, _sites(before, after, gone, of_pages=True))


def _slab(before: MachineMemory, after: MachineMemory, more: Explained) -> Iterator[Unexplained]:
    used = _more(after.slab_in_use, before.slab_in_use)
    gone = _more(used, more.slab)
    if gone is not None and gone > after.allowed(_SLAB_MIB, _SLAB_MIB_PER_CPU):
        meaning = "more in slab caches than the traced allocations explain: some came by a path without an event"
        yield Unexplained(MissingMemory.SLAB, gone, meaning, _sites(before, after, gone, of_pages=False))


def _areas(before: MachineMemory, after: MachineMemory, more: Explained) -> Iterator[Unexplained]:
    for name, words, line, known, rounding in (
        (MissingMemory.VMALLOC, "in vmalloc areas", "VmallocUsed", more.vmalloc, more.rounding),
        (MissingMemory.PERCPU, "in per-CPU memory", "Percpu", more.percpu, 0),
    ):
        used = _more(after.meminfo.get(line), before.meminfo.get(line))
        gone = _more(used, known)
        if gone is not None and gone > after.allowed(_AREAS_MIB, _AREAS_MIB_PER_CPU) + rounding:
            meaning = f"more {words} than the traced allocations explain: some came by a path without an event"
            yield Unexplained(name, gone, meaning)


def _more(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


def _sites(before: MachineMemory, after: MachineMemory, gone: int, *, of_pages: bool) -> tuple[tuple[str, int], ...]:
    """Who took the most meanwhile: of call sites that take whole pages, or of the others."""
    taken = {site: _growth(use, before.sites.get(site)) for site, use in after.sites.items()}
    for site, use in after.sites_at_unload.items():
        taken[site] = _growth(use, before.sites_at_unload.get(site))
    named = [
        (site, use.bytes)
        for site, use in taken.items()
        if use.bytes >= _WORTH_NAMING * gone and _takes_pages(site, use, after.page) is of_pages
    ]
    return tuple(sorted(named, key=lambda one: -one[1])[:_SITES])


def _growth(now: SiteUse, before: SiteUse | None) -> SiteUse:
    if before is None:
        return now
    return SiteUse(now.bytes - before.bytes, now.allocations - before.allocations)


def _takes_pages(site: str, use: SiteUse, page: int) -> bool | None:
    """Whether what it takes are whole pages, one like the other; None: such as are counted elsewhere."""
    least = page * max(use.allocations, 1)
    if use.bytes >= least and site.partition(":")[0].endswith(_COUNTED_FILES):
        return None
    return use.bytes % least == 0
