# SPDX-License-Identifier: GPL-2.0-or-later
"""What could be seen, and what could not: part of every report, and of every verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kleaktrace.core.events.records import LossWindow


class CoverageKind(StrEnum):
    """Kinds of events, and what else may be seen or not. The values are part of the JSON document."""

    KMALLOC = "kmalloc"
    KFREE = "kfree"
    SLAB_CACHE_ALLOC = "slab-cache-alloc"
    SLAB_CACHE_FREE = "slab-cache-free"
    SLAB_BULK_ALLOC = "slab-bulk-alloc"
    SLAB_BULK_FREE = "slab-bulk-free"
    VMALLOC = "vmalloc"
    VFREE = "vfree"
    PERCPU = "percpu"
    MODULES = "modules"
    OBJECT_CONTENTS = "object-contents"


@dataclass(frozen=True, slots=True)
class Coverage:
    """One kind of event: the source that reports it on this kernel, or None, and what that means."""

    kind: CoverageKind
    source: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """What did not reach us.

    events: allocations and frees that were not handed over. stacks: allocations whose stack could not be taken.
    names: stacks, caches or modules left nameless. windows: when events were lost, oldest first.
    """

    events: int = 0
    stacks: int = 0
    names: int = 0
    windows: tuple[LossWindow, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class StackCheck:
    """How the shortcut past the unwinder (bpf/stack_paths.h) fares.

    unwound: stacks that the kernel unwound. checked: of these, those that were recognised, too. wrong: of these, those
    that were recognised as another one.
    """

    unwound: int = 0
    checked: int = 0
    wrong: int = 0
