# SPDX-License-Identifier: GPL-2.0-or-later
"""Who takes pages that are counted elsewhere: callers of the page allocator whose pages are not told of, one by one.

What slab, vmalloc and the per-CPU allocator take is told of by their own events. What user space and the page cache
have comes by the hundred thousand a second, and has counters of its own in /proc/meminfo. They are told by the function
that called the page allocator, for nothing else tells them: their flags are not all movable ones.

Checked against Linux 6.1, 6.12 and 6.18, in the files named. Names go without leading underscores, `_noprof` and what
the compiler adds. Of functions that call each other all are listed: the compiler leaves now one of them, now another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from kleaktrace.core.symbols.symbol_table import SymbolTable

_PAGE_ALLOCATOR: Mapping[str, tuple[str, ...]] = {
    "mm/page_alloc.c": (
        *("alloc_pages", "alloc_frozen_pages", "alloc_pages_bulk", "alloc_pages_exact", "alloc_pages_nolock"),
        *("folio_alloc", "get_free_pages", "get_zeroed_page"),
    ),
    # The way into our own program. Some kernels' class of the event goes by its name.
    "include/trace/events/kmem.h": ("traceiter_mm_page_alloc", "bpf_trace_mm_page_alloc"),
    "arch/x86/kernel/rethook.c": ("arch_rethook_trampoline", "kretprobe_trampoline"),
    "mm/mempolicy.c": ("alloc_pages_mpol", "alloc_page_interleave", "folio_alloc_mpol", "alloc_pages_preferred_many"),
}
"""Families, as in `requesters`: they hand on what they get."""

_COUNTED_ELSEWHERE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "slab objects have events of their own, and so have large kmallocs": {
        "mm/slub.c": (
            *("allocate_slab", "alloc_slab_page", "new_slab", "slab_alloc", "slab_alloc_node", "refill_objects"),
            *("kmalloc_large", "kmalloc_large_node", "kmalloc_order"),
        ),
    },
    "vmalloc has events of its own, and so has per-CPU memory": {
        "mm/vmalloc.c": ("vm_area_alloc_pages", "vmalloc_area_node", "vmalloc_node_range"),
        "mm/percpu-vm.c": ("pcpu_populate_chunk", "pcpu_alloc_pages"),
    },
    "the page cache: Cached and Buffers in /proc/meminfo": {
        "mm/filemap.c": (
            *("filemap_alloc_folio", "filemap_get_folio", "filemap_get_folio_mpol", "filemap_create_folio"),
            *("filemap_get_pages", "filemap_fault", "do_read_cache_folio", "pagecache_get_page", "page_cache_alloc"),
        ),
        "mm/readahead.c": (
            *("page_cache_ra_unbounded", "page_cache_ra_order", "ra_alloc_folio", "force_page_cache_ra"),
            "readahead_expand",
        ),
        "mm/shmem.c": ("shmem_alloc_folio", "shmem_alloc_and_add_folio", "shmem_get_folio_gfp", "shmem_swapin_folio"),
        "mm/swap_state.c": ("read_swap_cache_async", "swap_cache_alloc_folio", "swapin_readahead"),
    },
    "memory of user space: AnonPages, HugePages in /proc/meminfo": {
        # Not all of it is movable: what is pinned for long is not (PF_MEMALLOC_PIN).
        "mm/memory.c": (
            *("do_anonymous_page", "alloc_anon_folio", "wp_page_copy", "do_cow_fault", "folio_prealloc"),
            *("do_fault", "do_wp_page", "handle_mm_fault", "copy_page_range", "alloc_swap_folio", "do_swap_page"),
        ),
        "mm/mempolicy.c": ("vma_alloc_folio",),
        "mm/huge_memory.c": ("do_huge_pmd_anonymous_page", "vma_alloc_anon_folio_pmd", "get_huge_zero_folio"),
        "mm/hugetlb.c": ("alloc_buddy_hugetlb_folio", "only_alloc_fresh_hugetlb_folio", "alloc_fresh_hugetlb_folio"),
        "mm/userfaultfd.c": ("mfill_atomic_pte_copy", "mfill_atomic_copy"),
    },
    "page tables: PageTables in /proc/meminfo": {
        "arch/x86/mm/pgtable.c": ("pte_alloc_one", "pte_alloc_one_kernel", "pgd_alloc", "pmd_alloc_one"),
        "mm/memory.c": ("pte_alloc", "pte_alloc_kernel", "pmd_alloc", "pud_alloc", "p4d_alloc"),
    },
    "stacks of tasks: KernelStack in /proc/meminfo": {
        "kernel/fork.c": ("alloc_thread_stack_node", "dup_task_struct"),
    },
    "BPF ring buffers, which `core.machine.unexplained_memory` knows": {
        "kernel/bpf/ringbuf.c": ("bpf_ringbuf_area_alloc", "bpf_ringbuf_alloc", "ringbuf_map_alloc"),
    },
}
"""By why, and by file."""

_COMPILED = re.compile(r"(_noprof)?(\.(?:isra|constprop|part|llvm)(?:\.\d+)?)*$")


class Caller(Enum):
    """What it means that a function called the page allocator."""

    PASSES_ON = "belongs to the page allocator: who called it is to be looked at"
    COUNTED_ELSEWHERE = "takes pages that something else counts"


@dataclass(frozen=True, slots=True)
class CallerCode:
    """Where a function's code lies, [start, end), and what it is."""

    start: int
    end: int
    caller: Caller


_FAMILIES = re.compile(
    f"(?:{'|'.join(re.escape(name) for names in _PAGE_ALLOCATOR.values() for name in names)})"
    r"(?:_(?:nolock|node|nodemask|mpol|bulk|array|list|mempolicy|exact|nid|current|noprof|interleave|weighted)+)*"
)
_ELSEWHERE = frozenset(name for files in _COUNTED_ELSEWHERE.values() for names in files.values() for name in names)


@lru_cache(1 << 10)
def caller_of(function: str) -> Caller | None:
    """What a function is, by its name as the kernel prints it; None: its pages are worth telling of."""
    name = _COMPILED.sub("", function).lstrip("_")
    if name in _ELSEWHERE:
        return Caller.COUNTED_ELSEWHERE
    return Caller.PASSES_ON if _FAMILIES.fullmatch(name) else None


_NAMES = re.compile(
    rb"^[0-9a-f]{16} [tT] _*(?:" + b"|".join(
        re.escape(name.encode())
        for name in sorted({*_ELSEWHERE, *(name for names in _PAGE_ALLOCATOR.values() for name in names)})
    ) + rb")[\w.]*$",
    re.MULTILINE,
)  # fmt: skip


_TRAMPOLINE = re.compile(rb"^([0-9a-f]{16}) [tT] bpf_trampoline_\w+\t\[bpf\]$", re.MULTILINE)
"""By which a function is called whose return a BPF program wants to see: it is a frame of the stack."""
_TRAMPOLINE_BYTES = 4096  # at most: kernel/bpf/trampoline.c, `arch_prepare_bpf_trampoline`


def caller_codes(kernel: SymbolTable) -> Iterator[CallerCode]:
    """Where all of them lie in this kernel, and the trampolines that are attached now."""
    for line in _NAMES.findall(kernel.text):
        caller = caller_of(line[19:].decode())
        frame = kernel.find(int(line[:16], 16)) if caller else None
        if caller and frame is not None:
            yield CallerCode(frame.address, frame.address + frame.size, caller)
    for address in _TRAMPOLINE.findall(kernel.text):
        start = int(address, 16)
        yield CallerCode(
            start, start + min(kernel.size_at(start) or _TRAMPOLINE_BYTES, _TRAMPOLINE_BYTES), Caller.PASSES_ON
        )
