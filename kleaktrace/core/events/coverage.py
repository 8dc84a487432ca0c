# SPDX-License-Identifier: GPL-2.0-or-later
"""What could be seen, and what could not: part of every report, and of every verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class CoverageKind(StrEnum):
    """Kinds of events, and what else may be seen or not. The values are part of the JSON document."""

    KMALLOC = "kmalloc"
    KFREE = "kfree"
    SLAB_CACHE_ALLOC = "slab-cache-alloc"
    SLAB_CACHE_FREE = "slab-cache-free"
    SLAB_BULK_ALLOC = "slab-bulk-alloc"
    SLAB_BULK_FREE = "slab-bulk-free"
    SLAB_SHEAF_FREE = "slab-sheaf-free"
    """kfree_rcu into a sheaf; listed only for kernels that have these."""
    SLAB_RCU_FREE = "slab-rcu-free"
    """kfree_rcu without batches; listed only for kernels whose kfree_rcu makes none."""
    VMALLOC = "vmalloc"
    VFREE = "vfree"
    PERCPU = "percpu"
    PAGES = "pages"
    """Listed only where they are asked for, as the next."""
    PAGES_BULK = "pages-bulk"
    MODULES = "modules"
    OBJECT_CONTENTS = "object-contents"


@dataclass(frozen=True, slots=True)
class Coverage:
    """One kind of event: the source that reports it on this kernel, or None, and what that means.

    guard_pages: what it reports are ranges of addresses, of which a vmalloc takes a guard page more than it asked for.
    """

    kind: CoverageKind
    source: str | None
    note: str = ""
    guard_pages: bool = False


def kinds_seen(coverage: Iterable[Coverage]) -> frozenset[CoverageKind]:
    """The kinds of events that some source reports."""
    return frozenset(one.kind for one in coverage if one.source is not None)


def kinds_missed(coverage: Iterable[Coverage]) -> list[CoverageKind]:
    """The kinds of events that this kernel has, and that no source reports."""
    return [one.kind for one in coverage if one.source is None]


def counts_guard_pages(coverage: Iterable[Coverage]) -> bool:
    """Whether vmallocs are known by the addresses they take, a guard page included: nobody may hook vmalloc."""
    return any(one.guard_pages for one in coverage if one.kind is CoverageKind.VMALLOC)


@dataclass(frozen=True, slots=True)
class StackCheck:
    """How the shortcut past the unwinder (bpf/stack_paths.h) fares.

    unwound: stacks that the kernel unwound. checked: of these, those that were recognised, too. wrong: of these, those
    that were recognised as another one.
    """

    unwound: int = 0
    checked: int = 0
    wrong: int = 0
