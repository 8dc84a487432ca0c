# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose pages are counted elsewhere, by the names that kernels print."""

from __future__ import annotations

import pytest
from builders import kallsyms

from kleaktrace.core.symbols.page_callers import Caller, CallerCode, caller_codes, caller_of
from kleaktrace.core.symbols.symbol_table import parse_kallsyms

TEXT = 0xFFFFFFFF81000000


@pytest.mark.parametrize(
    "function",
    [
        *("__alloc_pages", "__alloc_pages_noprof", "__alloc_frozen_pages_noprof", "alloc_pages_mpol"),
        *("alloc_pages_mpol_noprof", "alloc_pages_bulk_noprof", "__alloc_pages_bulk", "get_free_pages_noprof"),
        *("__get_free_pages", "get_zeroed_page_noprof", "alloc_pages_exact_noprof", "__folio_alloc_noprof"),
        *("folio_alloc_mpol_noprof", "alloc_pages_bulk_mempolicy_noprof", "alloc_frozen_pages_nolock_noprof"),
        *("__traceiter_mm_page_alloc", "__bpf_trace_mm_page_alloc"),
    ],
)
def test_the_page_allocator_hands_on(function: str) -> None:
    assert caller_of(function) is Caller.PASSES_ON


@pytest.mark.parametrize(
    "function",
    [
        *("allocate_slab", "___slab_alloc", "__slab_alloc.isra.0", "new_slab", "___kmalloc_large_node"),
        *("__kmalloc_large_noprof", "kmalloc_large", "__vmalloc_node_range_noprof", "__vmalloc_area_node"),
        *("pcpu_populate_chunk", "filemap_alloc_folio_noprof", "__filemap_get_folio", "page_cache_ra_unbounded"),
        *("shmem_get_folio_gfp.constprop.0", "do_anonymous_page", "vma_alloc_folio_noprof", "pte_alloc_one"),
        *("__pmd_alloc", "pgd_alloc", "only_alloc_fresh_hugetlb_folio.isra.0"),
    ],
)
def test_what_is_counted_elsewhere(function: str) -> None:
    assert caller_of(function) is Caller.COUNTED_ELSEWHERE


@pytest.mark.parametrize(
    "function",
    [
        *("anon_pipe_write", "dma_direct_alloc", "page_pool_alloc_pages", "drv_probe", "alloc_skb_with_frags"),
        *("folio_alloc_swap", "bpf_map_alloc_pages", "tlb_next_batch", "__pollwait", "skb_page_frag_refill"),
        *("kmalloc_reserve", "fuse_dev_ioctl", "allocate_slab.cold"),
    ],
)
def test_all_others_are_told_of(function: str) -> None:
    assert caller_of(function) is None


def test_codes_are_found_in_the_kernel_s_symbols_and_not_in_modules() -> None:
    text = kallsyms({"__alloc_pages": TEXT, "drv": TEXT + 64, "pte_alloc_one": TEXT + 96, "end": TEXT + 112})
    table = parse_kallsyms(text + kallsyms({"new_slab": TEXT + (1 << 24)}, module="mod"))
    assert set(caller_codes(table)) == {
        CallerCode(TEXT, TEXT + 64, Caller.PASSES_ON),
        CallerCode(TEXT + 96, TEXT + 112, Caller.COUNTED_ELSEWHERE),
    }


def test_what_a_bpf_program_is_called_by_hands_on() -> None:
    """alloc_pages_bulk, whose return one wants to see, is called by a trampoline, as vmalloc calls it."""
    trampoline, rest = TEXT + (1 << 24), {"bpf_prog_6deef7357e7b4530_vfree": TEXT + (2 << 24)}
    text = kallsyms({"__alloc_pages": TEXT, "end": TEXT + 64})
    table = parse_kallsyms(text + kallsyms({"bpf_trampoline_6442494858": trampoline, **rest}, module="bpf"))
    assert CallerCode(trampoline, trampoline + 4096, Caller.PASSES_ON) in set(caller_codes(table))
    last = parse_kallsyms(text + kallsyms({"bpf_trampoline_6442494858": trampoline}, module="bpf"))
    assert CallerCode(trampoline, trampoline + 4096, Caller.PASSES_ON) in set(caller_codes(last))
