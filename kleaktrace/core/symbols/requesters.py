# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asked for memory: functions that only allocate on behalf of their callers are not who. The one table of them.

Checked against Linux 6.12, in the files named. Names go without leading underscores, `_noprof` (all allocators since
v6.10, commit 7bd230a26648) and what the compiler adds (`.isra.0`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache


class Role(Enum):
    """What a function does with memory that it allocates."""

    ALLOCATOR = "is part of the allocators: in no stack that is shown, and never who asked"
    HELPER = "allocates for its caller, who owns the result and is who asked"
    SHARING = (
        "allocates for its caller what others may own or free later: not to be named, but the caller is not the owner"
    )


_ALLOCATORS: Mapping[str, tuple[str, ...]] = {
    "mm/slub.c": (
        *("kmalloc", "kzalloc", "kcalloc", "kmalloc_array", "do_kmalloc_node", "krealloc", "slab_alloc"),
        *("kmem_cache_alloc", "kmem_cache_zalloc", "slab_post_alloc_hook"),
    ),
    "mm/util.c": (
        *(
            "kvmalloc",
            "kvzalloc",
            "kvcalloc",
            "kvrealloc",
            "kmemdup",
            "kvmemdup",
            "kstrdup",
            "kstrndup",
            "strndup_user",
        ),
        *("memdup_user", "vmemdup_user"),
    ),
    "mm/vmalloc.c": ("vmalloc", "vzalloc", "vcalloc", "vrealloc", "alloc_vmap_area", "get_vm_area_node"),
    "mm/percpu.c": ("pcpu_alloc", "alloc_percpu"),
    "mm/page_alloc.c": ("get_free_pages",),
    "lib/kasprintf.c": ("kasprintf", "kvasprintf"),
    "mm/kmemleak.c": ("create_object", "link_object", "kmemleak_alloc", "kmemleak_vmalloc", "set_track_prepare"),
}
"""Families: `kmalloc` stands for `kmalloc_node_track_caller` and all its other variants too."""

_HELPERS: Mapping[str, tuple[str, ...]] = {
    "drivers/base/devres.c": (
        *("alloc_dr", "devres_alloc_node", "devm_kmalloc", "devm_kzalloc", "devm_kcalloc", "devm_kmalloc_array"),
        *("devm_krealloc", "devm_kstrdup", "devm_kstrdup_const", "devm_kvasprintf", "devm_kasprintf", "devm_kmemdup"),
        *("devm_get_free_pages", "devm_alloc_percpu"),
    ),
    "drivers/gpu/drm/drm_managed.c": ("drmm_kmalloc", "drmm_kstrdup"),
    "fs/seq_file.c": ("seq_buf_alloc",),
    "kernel/bpf/syscall.c": ("bpf_map_kmalloc_node", "bpf_map_kzalloc", "bpf_map_kvcalloc", "bpf_map_area_alloc"),
    "lib/argv_split.c": ("argv_split",),
    "lib/bitmap.c": (
        *("bitmap_alloc", "bitmap_zalloc", "bitmap_alloc_node", "bitmap_zalloc_node"),
        *("devm_bitmap_alloc", "devm_bitmap_zalloc"),
    ),
    "lib/cpumask.c": ("alloc_cpumask_var_node",),
    "lib/kfifo.c": ("kfifo_alloc",),
    "lib/kobject.c": ("kobject_get_path",),
    "lib/nlattr.c": ("nla_strdup", "nla_memdup"),
    "lib/parser.c": ("match_strdup",),
    "lib/scatterlist.c": ("sg_kmalloc", "sg_alloc_table"),
    "lib/string_helpers.c": (
        *("kstrdup_quotable", "kstrdup_quotable_cmdline", "kstrdup_quotable_file", "kstrdup_and_replace"),
        *("kasprintf_strarray", "devm_kasprintf_strarray"),
    ),
    "mm/mempool.c": (
        *("mempool_alloc", "mempool_alloc_preallocated", "mempool_alloc_slab", "mempool_kmalloc", "mempool_kvmalloc"),
        *("mempool_init_node", "mempool_init", "mempool_create_node", "mempool_create", "mempool_resize"),
    ),
    "net/core/sock.c": ("sock_kmalloc", "sock_kmemdup", "sock_kzalloc"),
}

_SHARING: Mapping[str, tuple[str, ...]] = {
    # Sent, queued and freed by whoever comes last.
    "net/core/skbuff.c": (
        *("alloc_skb", "alloc_skb_with_frags", "netdev_alloc_skb", "napi_alloc_skb", "napi_skb_cache_get"),
        *("build_skb", "build_skb_around", "napi_build_skb", "slab_build_skb", "kmalloc_reserve", "pskb_expand_head"),
        *("skb_clone", "skb_copy", "skb_copy_expand", "pskb_copy_fclone", "skb_realloc_headroom", "skb_expand_head"),
    ),
    "net/core/sock.c": ("sk_prot_alloc", "sk_alloc", "sock_alloc_send_pskb", "sock_wmalloc", "sock_omalloc"),
    "net/ipv4/tcp.c": ("tcp_stream_alloc_skb",),
    "net/netlink/af_netlink.c": ("netlink_alloc_large_skb",),
    # Given to a driver below, which completes them.
    "block/bio.c": ("bio_alloc_bioset", "bio_kmalloc", "bvec_alloc"),
    "drivers/usb/core/urb.c": ("usb_alloc_urb",),
    # Freed with the last reference to the object, whoever has it. kobject_create makes such an object.
    "drivers/base/core.c": ("dev_set_name",),
    "lib/kobject.c": (
        *("kobject_create", "kobject_create_and_add", "kobject_add", "kobject_add_varg", "kobject_init_and_add"),
        *("kobject_set_name", "kobject_set_name_vargs"),
    ),
    "fs/kernfs/dir.c": ("kernfs_new_node",),
    # Kept in caches after their last use.
    "fs/dcache.c": ("d_alloc",),
    "fs/inode.c": ("alloc_inode",),
    # Nodes of an index, shared by what it holds.
    "lib/idr.c": ("idr_alloc", "idr_alloc_u32", "idr_alloc_cyclic", "ida_alloc_range"),
    "lib/maple_tree.c": (
        *(
            "mt_alloc_one",
            "mt_alloc_bulk",
            "mas_alloc_nodes",
            "mas_node_count",
            "mas_node_count_gfp",
            "mas_preallocate",
        ),
        "mas_nomem",
    ),
    "lib/radix-tree.c": (
        *("radix_tree_node_alloc", "radix_tree_extend", "radix_tree_create", "radix_tree_insert", "radix_tree_preload"),
        *("radix_tree_maybe_preload", "idr_preload", "idr_get_free"),
    ),
    "lib/xarray.c": (
        *("xas_alloc", "xas_expand", "xas_create", "xas_create_range", "xas_nomem", "xas_store", "xas_split_alloc"),
        *("xa_alloc", "xa_alloc_cyclic", "xa_store", "xa_cmpxchg", "xa_insert", "xa_store_range"),
    ),
}

_COMPILED = re.compile(r"(_noprof)?(\.\w+)*$")


def _any_of(names: Iterable[str], variants: str = "") -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(map(re.escape, names))}){variants}")


_FAMILIES = _any_of((name for names in _ALLOCATORS.values() for name in names), r"(?:_\w+)?")
_ROLES: Mapping[str, Role] = {
    name: role
    for role, table in ((Role.HELPER, _HELPERS), (Role.SHARING, _SHARING))
    for names in table.values()
    for name in names
}


@lru_cache(1 << 14)
def role_of(function: str) -> Role | None:
    """The role of a function, by its name as the kernel prints it; None: it wants memory for itself."""
    name = _COMPILED.sub("", function).lstrip("_")
    return _ROLES.get(name) or (Role.ALLOCATOR if _FAMILIES.fullmatch(name) else None)


def is_allocator(function: str) -> bool:
    """Whether it is part of the allocators, and says nothing in a stack."""
    return role_of(function) is Role.ALLOCATOR


def owns(function: str) -> bool:
    """Whether what it allocates is its own to free, as far as the name can tell: it decides who is convicted.

    True of functions that share: their callers are not to blame for what others keep.
    """
    return role_of(function) in (None, Role.SHARING)


def asks(function: str) -> bool:
    """Whether it asks for memory in its own interest: it decides who is named."""
    return role_of(function) is None
