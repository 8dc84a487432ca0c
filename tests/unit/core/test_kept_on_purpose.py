# SPDX-License-Identifier: GPL-2.0-or-later
"""Each rule of what core code keeps, and what it must not excuse."""

from __future__ import annotations

import pytest
from builders import Scene

from kleaktrace.core.events.records import Context, Kind
from kleaktrace.core.kept_on_purpose import BOOKKEEPING, RECLAIMABLE, RULES, rule_for, rule_for_row
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.kernel_names import CacheName, KernelNames
from kleaktrace.core.symbols.symbol_table import Frame, parse_kallsyms


def stack(*functions: str) -> Stack:
    return Stack(tuple(Frame(number, name, 1, 2) for number, name in enumerate(functions)), Context.TASK)


@pytest.mark.parametrize(
    ("rule", "cache", "functions"),
    [
        ("index node", "radix_tree_node", ("radix_tree_node_alloc", "idr_get_free")),
        ("index node", "maple_node", ("mas_alloc_nodes",)),
        ("index node", "kmalloc-128", ("ida_alloc_range", "drv_probe")),
        ("inode or dentry", "proc_inode_cache", ("alloc_inode",)),
        ("inode or dentry", "kernfs_iattrs_cache", ("__kernfs_iattrs",)),
        ("inode or dentry", "lsm_inode_cache", ("security_inode_alloc",)),
        ("alias of a slab cache", "kernfs_node_cache", ("__kernfs_new_node", "sysfs_slab_alias")),
        (
            "alias of a slab cache",
            "kernfs_node_cache",
            ("kernfs_create_link", "sysfs_do_create_link_sd.isra.0", "__kmem_cache_create_args", "drv_init"),
        ),
        ("until its timer", "tw_sock_TCP", ("inet_twsk_alloc",)),
        ("until its timer", "kmalloc-512", ("___neigh_create",)),
        ("until its timer", "ip_dst_cache", ("dst_alloc", "rt_dst_alloc")),
        ("until its timer", "proc_dir_entry", ("dst_alloc", "rt_dst_alloc")),  # the same, merged
        ("until its timer", "skbuff_ext_cache", ("inet_reqsk_alloc",)),
        ("until its timer", "skbuff_ext_cache", ("__nf_conntrack_alloc", "init_conntrack")),
        ("the kernel's own page tables", "pages (order 0)", ("__change_page_attr_set_clr", "set_memory_ro")),
        ("stacks of a checker", "pages (order 2)", ("stack_depot_save_flags", "set_track_prepare")),
        ("pool of workers", "kmalloc-512", ("get_unbound_pool", "alloc_workqueue")),
        ("head of an skb", "skbuff_head_cache", ("napi_skb_cache_get", "napi_alloc_skb", "gro_cells_init")),
        ("head of an skb", "skbuff_head_cache", ("__alloc_skb", "skb_segment", "tcp_gso_segment")),
    ],
)
def test_each_rule_holds(rule: str, cache: str, functions: tuple[str, ...]) -> None:
    found = rule_for(cache, stack(*functions), reclaimable=False)
    assert found is not None
    assert found.name == rule


@pytest.mark.parametrize(
    ("cache", "functions"),
    [
        ("kernfs_node_cache", ("__kernfs_new_node", "kernfs_create_dir_ns", "kobject_add_internal")),
        ("dentry", ("__d_alloc", "d_alloc_parallel", "start_creating.part.0", "debugfs_create_dir", "drv_init")),
        ("inode_cache", ("alloc_inode", "new_inode", "__debugfs_create_file", "debugfs_create_u32", "drv_init")),
        ("inode_cache", ("alloc_inode", "new_inode", "securityfs_create_dentry", "drv_init")),
        ("kernfs_node_cache", ("kernfs_create_link", "sysfs_do_create_link_sd", "device_add", "drv_init")),
        ("kmalloc-512", ("blk_mq_alloc_and_init_hctx", "blk_mq_init_allocated_queue")),
        ("kmalloc-256", ("alloc_workqueue", "drv_probe")),
        ("filp", ("alloc_empty_file",)),
        ("kmalloc-64", ("worker_thread", "kthread")),
        ("TCP", ("sk_prot_alloc",)),
        ("skbuff_fclone_cache", ("__alloc_skb", "tcp_sendmsg_locked")),
        ("skbuff_small_head", ("kmalloc_reserve", "napi_alloc_skb", "drv_rx")),
        ("kmalloc-256", ("metadata_dst_alloc", "tunnel_key_init")),
    ],
)
def test_what_is_no_one_s_to_keep_is_excused_by_none(cache: str, functions: tuple[str, ...]) -> None:
    assert rule_for(cache, stack(*functions), reclaimable=False) is None


def test_what_only_memory_has_cannot_be_reclaimed_though_its_cache_can() -> None:
    assert rule_for("inode_cache", stack("alloc_inode", "debugfs_create_dir", "drv_init"), reclaimable=True) is None
    assert rule_for("inode_cache", stack("alloc_inode", "drv_init"), reclaimable=True) is not None


def test_every_rule_has_a_reason_and_something_to_go_by() -> None:
    assert len({rule.name for rule in (*RULES, RECLAIMABLE)}) == len(RULES) + 1
    for rule in RULES:
        assert rule.reason
        assert rule.caches is not None or rule.functions is not None


def test_what_each_processor_keeps_so_many_of_is_excused_up_to_that_number() -> None:
    heads = rule_for("skbuff_head_cache", stack("__alloc_skb"), reclaimable=False)
    assert heads is not None
    assert [heads.keeps(objects, 2) for objects in (1, 128, 129)] == [True, True, False]
    assert heads.keeps(129, 0), "how many processors there are is not known"
    assert RECLAIMABLE.keeps(10**6, 1)


def test_what_vmalloc_took_to_describe_an_area_goes_later_than_the_area() -> None:
    names = Scene().names
    assert rule_for_row(names, Kind.KMALLOC, 0, 96, 4, 0) is BOOKKEEPING
    assert rule_for_row(names, Kind.VMALLOC, 0, 4096, 6, 0) is None


def test_what_the_kernel_can_take_back_is_known_by_its_cache_or_flags() -> None:
    names = KernelNames(parse_kallsyms(b""))
    names.caches[7] = CacheName(7, "things", 64, 64, reclaimable=True)
    names.caches[8] = CacheName(8, "others", 64, 64)
    assert rule_for_row(names, Kind.CACHE, 7, 64, 0, 0) is RECLAIMABLE
    assert rule_for_row(names, Kind.CACHE, 8, 64, 0, 0) is None
    assert rule_for_row(names, Kind.KMALLOC, 0, 64, 0, 0xCC0 | 0x10) is RECLAIMABLE
    assert rule_for_row(names, Kind.KMALLOC, 0, 64, 0, 0xCC0) is None
