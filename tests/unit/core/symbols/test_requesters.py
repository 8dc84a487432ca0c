# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions only allocate on behalf of their callers."""

from __future__ import annotations

import pytest
from frame_words import frames, words

from kleaktrace.core.events.records import Context
from kleaktrace.core.symbols.call_stacks import Stack, trim
from kleaktrace.core.symbols.requesters import Role, role_of


@pytest.mark.parametrize(
    ("function", "role"),
    [
        ("__kmalloc_node_track_caller_noprof", Role.ALLOCATOR),
        ("kmem_cache_alloc_lru_noprof.isra.0", Role.ALLOCATOR),
        ("kvasprintf_const", Role.ALLOCATOR),
        ("devm_kmalloc", Role.HELPER),
        ("__devm_alloc_percpu", Role.HELPER),
        ("nla_strdup", Role.HELPER),
        ("mempool_alloc_noprof", Role.HELPER),
        # of a helper's names, one begins like an allocator's
        ("kstrdup_quotable_file", Role.HELPER),
        ("__alloc_skb", Role.SHARING),
        ("kmalloc_reserve", Role.SHARING),
        ("radix_tree_node_alloc.constprop.0", Role.SHARING),
        ("kobject_set_name_vargs", Role.SHARING),
        ("getname_flags.part.0", Role.SHARING),
        ("mas_wr_bnode", Role.SHARING),
        ("__xa_store", Role.SHARING),
        ("__alloc_frozen_pages_noprof", Role.ALLOCATOR),
        ("alloc_pages_exact_noprof", Role.ALLOCATOR),
        ("__dma_direct_alloc_pages.constprop.0", Role.HELPER),
        ("dma_alloc_attrs", Role.HELPER),
        ("__page_pool_alloc_pages_slow", Role.SHARING),
        ("__page_frag_alloc_align", Role.SHARING),
        ("alloc_workqueue", None),
        ("drv_kmalloc", None),
        ("nla_strdup_of_mine", None),
        ("device_create_groups_vargs", None),
        ("", None),
    ],
)
def test_a_function_has_a_role_by_its_name(function: str, role: Role | None) -> None:
    assert role_of(function) is role


@pytest.mark.parametrize(
    ("stack", "shown", "owner", "requester"),
    [
        # what a driver has devres keep is the driver's
        (
            "__kmalloc_noprof devm_kmalloc drv_probe[drv]",
            "devm_kmalloc drv_probe[drv]",
            "drv_probe[drv]",
            "drv_probe[drv]",
        ),
        ("kmemdup_noprof nla_strdup tcf_init[act]", "nla_strdup tcf_init[act]", "tcf_init[act]", "tcf_init[act]"),
        # a buffer for its device is the driver's, and so it is named though it did not call the page allocator itself
        (
            "__alloc_pages_noprof __dma_direct_alloc_pages.constprop.0 dma_direct_alloc dma_alloc_attrs drv_open[drv]",
            "__dma_direct_alloc_pages.constprop.0 dma_direct_alloc dma_alloc_attrs drv_open[drv]",
            "drv_open[drv]",
            "drv_open[drv]",
        ),
        # a packet may be the network's by now
        (
            "kmem_cache_alloc_noprof __alloc_skb drv_send[drv] kthread",
            "__alloc_skb drv_send[drv] kthread",
            "__alloc_skb",
            "drv_send[drv]",
        ),
        (
            "__kmalloc_noprof kvasprintf kobject_set_name_vargs dev_set_name drv_add[drv]",
            "kobject_set_name_vargs dev_set_name drv_add[drv]",
            "kobject_set_name_vargs",
            "drv_add[drv]",
        ),
        # a file system's part of what is allocated for its caller
        (
            "kmem_cache_alloc_lru_noprof ext4_alloc_inode alloc_inode new_inode __ext4_new_inode ext4_create",
            "ext4_alloc_inode alloc_inode new_inode __ext4_new_inode ext4_create",
            "ext4_alloc_inode",
            "__ext4_new_inode",
        ),
        (
            "kmem_cache_alloc_noprof mas_new_ma_node mas_wr_bnode dup_mmap",
            "mas_new_ma_node mas_wr_bnode dup_mmap",
            "mas_new_ma_node",
            "dup_mmap",
        ),
        # a driver's functions may be called anything
        (
            "__kmalloc_noprof xa_setup[drv] do_one_initcall",
            "xa_setup[drv] do_one_initcall",
            "xa_setup[drv]",
            "xa_setup[drv]",
        ),
        ("devm_kmalloc ? drv_probe[drv]", "devm_kmalloc ? drv_probe[drv]", "?", "?"),
    ],
)
def test_who_owns_and_who_is_named(stack: str, shown: str, owner: str, requester: str) -> None:
    kept = trim(frames(stack))
    assert words(kept) == shown
    found = Stack(kept, Context.TASK)
    assert found.owner is not None
    assert found.requester is not None
    assert (words((found.owner,)), words((found.requester,))) == (owner, requester)


def test_nobody_is_named_where_all_are_helpers() -> None:
    assert Stack(frames("__alloc_skb alloc_skb_with_frags"), Context.TASK).requester is None
