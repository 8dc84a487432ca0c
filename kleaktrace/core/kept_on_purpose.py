# SPDX-License-Identifier: GPL-2.0-or-later
"""What core code keeps on purpose, though the module that it was for is gone: one table of rules, each with its reason.

Such memory says nothing by itself. It convicts nobody, and does not stand in the way of "clean".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kleaktrace.core.events.records import Kind, Rows
from kleaktrace.core.symbols import skb_heads
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.kernel_names import KernelNames, is_reclaimable


@dataclass(frozen=True, slots=True)
class Rule:
    """Memory from one of these caches, or asked for below one of these functions, is kept on purpose, and why."""

    name: str
    reason: str
    caches: re.Pattern[str] | None = None
    functions: re.Pattern[str] | None = None
    called: tuple[re.Pattern[str], re.Pattern[str]] | None = None
    """A function, and one that must have called it."""
    until_needed: bool = False
    """Whether it stays only while nobody needs the memory, as what is cached does. What a module itself had made, and
    what is left of it every time the module has gone, is not cached: somebody has a reference."""
    most_per_processor: int | None = None
    """So many objects are kept at most for each processor there may be; None: there is no such limit."""

    def keeps(self, objects: int, processors: int) -> bool:
        """Whether so many may all be kept by so many processors; 0: their number is not known."""
        return not (self.most_per_processor and processors) or objects <= self.most_per_processor * processors

    def holds(self, cache: str, stack: Stack) -> bool:
        """Whether it is about this allocation."""
        if self.caches is not None and self.caches.fullmatch(cache):
            return True
        names = [frame.name or "" for frame in stack.frames]
        if self.functions is not None and any(map(self.functions.fullmatch, names)):
            return True
        if self.called is None:
            return False
        callee, caller = self.called
        return any(callee.fullmatch(inner) and caller.fullmatch(outer) for inner, outer in pairwise(names))


RECLAIMABLE = Rule(
    "reclaimable", "a cache that the kernel shrinks when memory is short (SLAB_RECLAIM_ACCOUNT)", until_needed=True
)

BOOKKEEPING = Rule("bookkeeping", "describes what vmalloc or the per-CPU allocator gave out, and goes later than that")

RULES = (
    Rule(
        "index node",
        "a node of an XArray, IDR, radix or maple tree, which many entries share",  # lib/xarray.c, lib/maple_tree.c
        caches=re.compile(r"radix_tree_node|maple_node"),
        functions=re.compile(
            r"ida_alloc_range|(__)?idr_get_free|__radix_tree_preload|xas_alloc|xas_nomem|mas_alloc_nodes"
        ),
    ),
    Rule(
        "inode or dentry",
        "belongs to an inode or dentry, which stay cached",  # fs/inode.c, fs/dcache.c
        caches=re.compile(r"dentry|\w*inode_cache|kernfs_iattrs_cache|lsm_inode_cache"),
        functions=re.compile(r"__d_alloc|alloc_inode|inode_init_always\w*|security_inode_alloc|__kernfs_iattrs"),
        until_needed=True,
    ),
    Rule(
        "alias of a slab cache",
        "the name of a slab cache that was merged with others, and its node in sysfs, stay",  # mm/slub.c
        functions=re.compile(r"sysfs_slab_alias|__kmem_cache_alias|sysfs_slab_add|create_unique_id"),
        # The first two may be inlined. Nothing else there makes links.
        called=(re.compile(r"sysfs_(do_)?create_link(_sd)?(\..*)?"), re.compile(r"(__)?kmem_cache_create\w*")),
    ),
    Rule(
        "the kernel's own page tables",
        # arch/x86/mm/pat/set_memory.c, arch/arm64/mm/pageattr.c
        "where protections differ the kernel maps itself by smaller pages, and stays with them",
        functions=re.compile(r"(__)?change_page_attr(_set_clr)?|(__)?split_large_page|change_memory_common"),
    ),
    Rule(
        "stacks of a checker",
        "call stacks that kmemleak and KASAN have seen are kept once each, for good",  # lib/stackdepot.c
        functions=re.compile(r"(__)?stack_depot_save(_flags)?"),
    ),
    Rule(
        "until its timer",
        # net/ipv4/inet_timewait_sock.c, net/core/neighbour.c, net/ipv4/route.c (rt_cache_route), …
        "the network keeps it until a timer ends it, or another takes its place",
        caches=re.compile(
            r"tw_sock_\w+|request_sock_\w+|nf_conntrack\w*|inet_peer_cache|ip6?_dst_cache|arp_cache|ndisc_cache"
        ),
        functions=re.compile(
            # The caches, too: where they are merged, they go by another name.
            r"___?neigh_create|neigh_alloc|tcpm_new|inet_getpeer|update_or_create_fnhe|inet_twsk_alloc"
            r"|dst_alloc|inet_reqsk_alloc|__nf_conntrack_alloc"
        ),
    ),
    Rule(
        "pool of workers",
        "work queues share their pools of workers, which rest for minutes before they go",  # kernel/workqueue.c
        functions=re.compile(r"get_unbound_pool|create_worker"),
    ),
    Rule(
        "head of an skb",
        f"these go round in a list of each CPU's own, {skb_heads.MOST_PER_PROCESSOR} at most, whoever asked for them",
        caches=re.compile(skb_heads.CACHE),
        until_needed=True,
        most_per_processor=skb_heads.MOST_PER_PROCESSOR,
    ),
)
"""In the order in which they are asked."""

_PINNED = re.compile(r"(__)?(debugfs|tracefs|securityfs)_create\w*(\..*)?")
"""What these make has no other place than memory: its inodes and dentries stay until they are removed (fs/libfs.c)."""


def rule_for(cache: str, stack: Stack, reclaimable: bool) -> Rule | None:
    """The rule that says that this is kept on purpose; None if there is none. `cache` is the slab cache's name."""
    found = next((rule for rule in RULES if rule.holds(cache, stack)), RECLAIMABLE if reclaimable else None)
    return None if found is not None and found.until_needed and is_pinned(stack) else found


def is_pinned(stack: Stack) -> bool:
    """Whether this belongs to a file that has no other place than memory, and stays until somebody removes it."""
    return any(_PINNED.fullmatch(frame.name or "") for frame in stack.frames)


def is_bookkeeping(kind: int, stack: Stack) -> bool:
    """Whether this is what vmalloc or the per-CPU allocator took to describe what it gave out.

    It goes when that goes, which is judged for itself.
    """
    return _is_of_books(kind, stack) or (kind == Kind.VMALLOC and stack.within_vmalloc)


def _is_of_books(kind: int, stack: Stack) -> bool:
    return kind in (Kind.KMALLOC, Kind.CACHE, Kind.PAGES) and stack.below_machinery


def rule_for_row(names: KernelNames, kind: int, cache: int, size: int, stack: int, gfp_flags: int) -> Rule | None:
    """The same for an allocation as the ledger has it: keys of cache and stack, size in bytes as given."""
    if _is_of_books(kind, names.stacks.get(stack)):
        return BOOKKEEPING
    known = names.caches.get(cache)
    reclaimable = (known is not None and known.reclaimable) or is_reclaimable(gfp_flags)
    return rule_for(names.cache(kind, cache, size), names.stacks.get(stack), reclaimable)


def without_kept(rows: Rows, names: KernelNames, but_cached: bool = False) -> Rows:
    """Those of the OUTSTANDING rows that no rule says anything of. but_cached: nor is what is cached left out."""
    fields = (rows[name].tolist() for name in ("kind", "cache", "bytes_alloc", "stack", "gfp_flags"))
    rules = [rule_for_row(names, *row) for row in zip(*fields, strict=True)]
    others = [rule is None or (but_cached and rule.until_needed) for rule in rules]
    left: Rows = rows[np.array(others, np.bool_)]
    return left
