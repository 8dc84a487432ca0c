# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asked for memory: functions that only allocate on behalf of their callers are not who. The one table of them.

Checked against Linux 6.12, in the files named. Names go without leading underscores, `_noprof` (all allocators since
v6.10, commit 7bd230a26648) and what the compiler adds (`.isra.0`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from itertools import zip_longest


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
        *("kmem_cache_alloc", "kmem_cache_zalloc", "slab_post_alloc_hook", "memcg_slab_post_alloc_hook"),
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
    "mm/vmalloc.c": ("vmalloc", "vzalloc", "vcalloc", "vrealloc", "alloc_vmap_area", "get_vm_area"),
    "mm/percpu.c": ("pcpu_alloc", "alloc_percpu"),
    "mm/page_alloc.c": ("get_free_pages", "get_zeroed_page", "alloc_pages", "alloc_frozen_pages"),
    "lib/kasprintf.c": ("kasprintf", "kvasprintf"),
    "mm/kmemleak.c": ("create_object", "link_object", "kmemleak_alloc", "kmemleak_vmalloc", "set_track_prepare"),
}
"""Families: `kmalloc` stands for `kmalloc_node_track_caller` and all its other variants too."""

_HELPERS: Mapping[str, tuple[str, ...]] = {
    "arch/*/mm/ioremap.c": (
        *("ioremap", "ioremap_cache", "ioremap_caller", "ioremap_encrypted", "ioremap_prot", "ioremap_uc"),
        *("ioremap_wc", "ioremap_wt"),
    ),
    "drivers/base/devres.c": (
        *("alloc_dr", "devres_alloc_node", "devm_kmalloc", "devm_kzalloc", "devm_kcalloc", "devm_kmalloc_array"),
        *("devm_krealloc", "devm_kstrdup", "devm_kstrdup_const", "devm_kvasprintf", "devm_kasprintf", "devm_kmemdup"),
        *("devm_get_free_pages", "devm_alloc_percpu"),
    ),
    "drivers/pci/devres.c": ("pcim_iomap", "pcim_iomap_range", "pcim_iomap_region", "devm_pci_remap_cfgspace"),
    "drivers/gpu/drm/drm_managed.c": ("drmm_kmalloc", "drmm_kstrdup"),
    "fs/seq_file.c": ("seq_buf_alloc",),
    "drivers/iommu/dma-iommu.c": ("iommu_dma_alloc", "iommu_dma_alloc_pages", "iommu_dma_alloc_noncontiguous"),
    "kernel/bpf/syscall.c": (
        *("bpf_map_alloc_percpu", "bpf_map_area_alloc", "bpf_map_kmalloc_node", "bpf_map_kvcalloc", "bpf_map_kzalloc"),
    ),
    "kernel/dma/mapping.c": ("dma_alloc_attrs", "dmam_alloc_attrs", "dma_alloc_pages", "dma_alloc_noncontiguous"),
    "kernel/dma/direct.c": ("dma_direct_alloc", "dma_direct_alloc_pages", "dma_direct_alloc_no_mapping"),
    "kernel/dma/ops_helpers.c": ("dma_common_alloc_pages",),
    "kernel/dma/contiguous.c": ("dma_alloc_contiguous",),
    "kernel/dma/remap.c": ("dma_common_contiguous_remap", "dma_common_pages_remap"),
    "kernel/bpf/verifier.c": ("copy_array", "realloc_array"),
    "lib/argv_split.c": ("argv_split",),
    "lib/devres.c": (
        *("devm_ioremap", "devm_ioremap_resource", "devm_ioremap_resource_wc", "devm_ioremap_uc", "devm_ioremap_wc"),
        "devm_of_iomap",
    ),
    "lib/pci_iomap.c": ("pci_iomap", "pci_iomap_range", "pci_iomap_wc", "pci_iomap_wc_range"),
    "lib/bitmap.c": (
        *("bitmap_alloc", "bitmap_zalloc", "bitmap_alloc_node", "bitmap_zalloc_node"),
        *("devm_bitmap_alloc", "devm_bitmap_zalloc"),
    ),
    "lib/cpumask.c": ("alloc_cpumask_var_node",),
    "lib/percpu-refcount.c": ("percpu_ref_init",),
    "lib/percpu_counter.c": ("percpu_counter_init_many",),
    "lib/kfifo.c": ("kfifo_alloc",),
    "lib/kobject.c": ("kobject_get_path",),
    "lib/nlattr.c": ("nla_strdup", "nla_memdup"),
    "lib/parser.c": ("match_strdup",),
    "lib/scatterlist.c": ("sg_kmalloc", "sg_alloc_table", "sgl_alloc", "sgl_alloc_order"),
    "lib/sg_pool.c": ("sg_alloc_table_chained", "sg_pool_alloc"),
    "lib/string_helpers.c": (
        *("kstrdup_quotable", "kstrdup_quotable_cmdline", "kstrdup_quotable_file", "kstrdup_and_replace"),
        *("kasprintf_strarray", "devm_kasprintf_strarray"),
    ),
    "mm/mempool.c": (
        *("mempool_alloc", "mempool_alloc_preallocated", "mempool_alloc_slab", "mempool_kmalloc", "mempool_kvmalloc"),
        *(
            "mempool_alloc_pages",
            "mempool_init_node",
            "mempool_init",
            "mempool_create_node",
            "mempool_create",
            "mempool_resize",
        ),
    ),
    "mm/mempolicy.c": ("folio_alloc", "folio_alloc_mpol"),
    "mm/ioremap.c": ("generic_ioremap_prot",),
    "mm/vmalloc.c": ("vm_map_ram", "vmap", "vmap_pfn"),
    "net/core/sock.c": ("sock_kmalloc", "sock_kmemdup", "sock_kzalloc"),
}

_PACKETS = "net/core/skbuff.c"
_SHARING: Mapping[str, tuple[str, ...]] = {
    # Sent, queued and freed by whoever comes last.
    _PACKETS: (
        *("alloc_skb", "alloc_skb_with_frags", "netdev_alloc_skb", "napi_alloc_skb", "napi_skb_cache_get"),
        "dev_alloc_skb",
        *("build_skb", "build_skb_around", "napi_build_skb", "slab_build_skb", "kmalloc_reserve", "pskb_expand_head"),
        *("skb_clone", "skb_copy", "skb_copy_expand", "pskb_copy_fclone", "skb_realloc_headroom", "skb_expand_head"),
    ),
    "net/core/sock.c": (
        *("sk_prot_alloc", "sk_alloc", "sock_alloc_send_pskb", "sock_wmalloc", "sock_omalloc"),
        *("skb_page_frag_refill", "sk_page_frag_refill"),
    ),
    # Pages in pieces, or handed on to skbs: they come back when the last piece has.
    "mm/page_frag_cache.c": ("page_frag_cache_refill", "page_frag_alloc", "page_frag_alloc_align"),
    "net/core/page_pool.c": (
        *("page_pool_alloc_page_order", "page_pool_alloc_pages", "page_pool_alloc_pages_slow", "page_pool_alloc_frag"),
        *("page_pool_alloc_netmems", "page_pool_alloc_netmems_slow", "page_pool_alloc_frag_netmem"),
    ),
    # Of a page there are many objects, of many callers.
    "mm/dmapool.c": ("dma_pool_alloc", "pool_alloc_page"),
    "drivers/net/can/dev/skb.c": ("alloc_can_err_skb", "alloc_can_skb", "alloc_canfd_skb", "alloc_canxl_skb"),
    "net/ipv4/tcp.c": ("tcp_stream_alloc_skb",),
    "net/netlink/af_netlink.c": ("netlink_alloc_large_skb",),
    # Given to a driver below, which completes them.
    "block/bio.c": (
        "bio_alloc_bioset",
        "bio_kmalloc",
        "bvec_alloc",
        "bio_alloc_clone",
        "bio_alloc_rescue",
        "bio_split",
    ),
    "drivers/usb/core/urb.c": ("usb_alloc_urb",),
    # Freed with the last reference to the object, whoever has it. kobject_create makes such an object.
    "drivers/base/core.c": ("dev_set_name",),
    "lib/kobject.c": (
        *("kobject_create", "kobject_create_and_add", "kobject_add", "kobject_add_varg", "kobject_init_and_add"),
        *("kobject_set_name", "kobject_set_name_vargs"),
    ),
    "fs/kernfs/dir.c": ("kernfs_new_node",),
    # Kept in caches after their last use.
    "fs/buffer.c": ("alloc_buffer_head", "folio_alloc_buffers", "create_empty_buffers", "getblk_slow"),
    "fs/dcache.c": ("d_alloc", "d_alloc_anon", "d_alloc_name", "d_alloc_parallel", "d_alloc_pseudo"),
    "fs/inode.c": (
        "alloc_inode",
        "alloc_anon_inode",
        "inode_init_always",
        "inode_init_always_gfp",
        "new_inode",
        "iget_locked",
    ),
    # Freed with the last reference.
    "fs/anon_inodes.c": ("anon_inode_create_getfile", "anon_inode_getfile", "anon_inode_getfile_fmode"),
    "fs/file_table.c": ("alloc_empty_file", "alloc_file_clone", "alloc_file_pseudo", "init_file"),
    "fs/namei.c": ("getname", "getname_flags", "getname_kernel"),
    "fs/pipe.c": ("alloc_pipe_info",),
    "kernel/cred.c": ("cred_alloc_blank", "prepare_creds"),
    "kernel/fork.c": ("mm_alloc", "vm_area_alloc", "vm_area_dup"),
    "kernel/pid.c": ("alloc_pid",),
    "net/core/dst.c": ("dst_alloc", "metadata_dst_alloc", "metadata_dst_alloc_percpu"),
    "net/socket.c": ("sock_alloc", "sock_alloc_file"),
    # Belongs to what it is for.
    "mm/percpu.c": ("pcpu_create_chunk", "pcpu_get_pages", "pcpu_mem_zalloc", "pcpu_populate_chunk"),
    "mm/list_lru.c": ("memcg_list_lru_alloc",),
    "mm/slub.c": ("alloc_slab_obj_exts", "alloc_empty_sheaf"),
    "security/security.c": (
        *("lsm_blob_alloc", "security_file_alloc", "security_inode_alloc", "security_prepare_creds"),
        *("security_cred_alloc_blank", "security_msg_msg_alloc", "security_sk_alloc", "security_task_alloc"),
    ),
    # Nodes of an index, shared by what it holds.
    "lib/idr.c": ("idr_alloc", "idr_alloc_u32", "idr_alloc_cyclic", "ida_alloc_range"),
    "lib/maple_tree.c": ("mt_alloc_one", "mt_alloc_bulk", "mt_alloc_sheaf", "mt_dup"),
    "lib/radix-tree.c": (
        *("radix_tree_node_alloc", "radix_tree_extend", "radix_tree_create", "radix_tree_insert", "radix_tree_preload"),
        *("radix_tree_maybe_preload", "idr_preload", "idr_get_free"),
    ),
}
_SHARING_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "lib/maple_tree.c": ("mas", "mtree"),
    "lib/xarray.c": ("xa", "xas"),
}
"""All functions of the kernel itself whose names begin so: who stores something in an index has it allocate."""

_COMPILED = re.compile(r"(_noprof)?(\.\w+)*$")


def _any_of(names: Iterable[str], variants: str = "") -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(map(re.escape, names))}){variants}")


_FAMILIES = _any_of((name for names in _ALLOCATORS.values() for name in names), r"(?:_\w+)?")
_INDICES = _any_of((name for names in _SHARING_FAMILIES.values() for name in names), r"_\w+")
_ROLES: Mapping[str, Role] = {
    name: role
    for role, table in ((Role.HELPER, _HELPERS), (Role.SHARING, _SHARING))
    for names in table.values()
    for name in names
}


def plain_name(function: str) -> str:
    """The name as the tables here have it: `kernfs_new_node` of `__kernfs_new_node.isra.0`."""
    return _COMPILED.sub("", function).lstrip("_")


@lru_cache(1 << 14)
def role_of(function: str, in_module: bool = False) -> Role | None:
    """The role of a function, by its name as the kernel prints it; None: it wants memory for itself."""
    name = plain_name(function)
    if name in _ROLES:
        return _ROLES[name]
    if _FAMILIES.fullmatch(name):
        return Role.ALLOCATOR
    return Role.SHARING if not in_module and _INDICES.fullmatch(name) else None


def is_allocator(function: str) -> bool:
    """Whether it is part of the allocators, and says nothing in a stack."""
    return role_of(function) is Role.ALLOCATOR


def owns(function: str) -> bool:
    """Whether what it allocates is its own to free, as far as the name can tell: it decides who is convicted.

    True of functions that share: their callers are not to blame for what others keep.
    """
    return role_of(function) in (None, Role.SHARING)


def makes_packets(function: str) -> bool:
    """Whether it allocates skbs, or their data."""
    return plain_name(function) in _SHARING[_PACKETS]


def requester_place(functions: Sequence[tuple[str | None, bool]]) -> int | None:
    """Which function of a call stack, innermost first, asked in its own interest: who is to be named; None: none did.

    functions: names (None: not known), and whether a module has them. What a function calls that only allocates for
    its callers is a part of it, as a file system's own `ext4_alloc_inode` is of `alloc_inode`.
    """
    roles = [None if name is None else role_of(name, in_module) for name, in_module in functions]
    for place, (role, caller) in enumerate(zip_longest(roles, roles[1:])):
        if role is None and (caller is None or functions[place][0] is None):
            return place
    return None
