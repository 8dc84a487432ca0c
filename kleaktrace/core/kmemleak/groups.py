# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts suspects with identical backtraces together, and says what their text can tell beyond the words.

One leaking line of code usually lists hundreds of objects; a group is what a person looks at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

_SUFFIX = (
    r"(?:_(?:32|array|buckets|bulk|cache|caller|exec|flex|gfp|huge|large|lru|node|nolock|noprof|obj|objs|order|range"
    r"|reserved|trace|track|user))*"
)
_ALLOCATOR = re.compile(
    r"create_object|__link_object|set_track_prepare|slab_post_alloc_hook|slab_alloc(?:_node)?"
    r"|kmemleak_(?:alloc|vmalloc)\w*"
    r"|(?:_*(?:do_)?k(?:v|m|z|c|vm|vz|vc)?(?:alloc|realloc)|kmem_cache_z?alloc"
    rf"|_*v[mz]alloc|pcpu_alloc|_*alloc_percpu){_SUFFIX}"
)


@dataclass(frozen=True, slots=True)
class SuspectGroup:
    """Suspects of one kind with the same backtrace, in the order of the text; objects without one stay alone."""

    kind: str
    frames: tuple[KmemleakFrame, ...]
    members: tuple[Suspect, ...]

    @property
    def count(self) -> int:
        """Number of objects, those included that the log only counts."""
        return len(self.members) + sum(m.more for m in self.members)

    @property
    def bytes(self) -> int:
        """Bytes of the objects that are printed."""
        return sum(m.size for m in self.members)

    @property
    def sizes(self) -> Counter[int]:
        """How many printed objects there are of each size in bytes."""
        return Counter(m.size for m in self.members)

    @property
    def allocators(self) -> Counter[tuple[str, int]]:
        """How many printed objects each comm and pid asked for."""
        return Counter((m.comm, m.pid) for m in self.members)

    @property
    def allocator_frames(self) -> int:
        """How many of the innermost frames only say that something was allocated."""
        for index, frame in enumerate(self.frames):
            if frame.symbol is None or not is_allocator(frame.symbol):
                return index
        return 0


def is_allocator(symbol: str) -> bool:
    """Whether a function is part of the allocators, whatever its suffix (`_noprof`, `.isra.0`)."""
    return bool(_ALLOCATOR.fullmatch(symbol.partition(".")[0]))


def group(suspects: Iterable[Suspect]) -> tuple[SuspectGroup, ...]:
    """Group by kind and backtrace, most bytes first. Inlined frames, which only decoders add, don't count."""
    together: dict[tuple[object, ...], list[Suspect]] = {}
    for suspect in suspects:
        stack = tuple(frame.text for frame in suspect.frames if not frame.inline)
        key = (suspect.kind, stack or suspect.address)
        together.setdefault(key, []).append(suspect)
    groups = [SuspectGroup(g[0].kind, g[0].frames, tuple(g)) for g in together.values()]
    return tuple(sorted(groups, key=lambda g: -g.bytes))


_IRQ_ENTRY = re.compile(r"__irq_svc|__irq_usr|el1h?_irq|el1h_64_irq\w*|asm_\w*interrupt\w*|handle_int|ret_from_intr")
_FALSE_POSITIVES = (
    (
        re.compile(r"setup_zone_pageset|setup_per_cpu_pageset"),
        "a known false positive: the pagesets of memory zones are kept where kmemleak does not look",
    ),
    (
        re.compile(r"kvmppc_\w+|\w*(?:pte|pmd|pud|pgd)_alloc\w*|\w*pgtable\w*|\w*iommu\w*map\w*"),
        "often a false positive: page tables hold physical addresses, which kmemleak does not follow",
    ),
    (
        re.compile(r"dma_pool_alloc\w*|dma_alloc_\w+|\w*virtqueue_add\w*|\w*virtnet_\w*"),
        "may be a false positive: a device may be the only one to hold the pointer, as a bus address",
    ),
    (
        re.compile(r"kvfree_call_rcu|call_rcu\w*|kfree_rcu\w*"),
        "may be on its way through RCU: see whether a later scan still lists it",
    ),
)
_BOOT_WRAP = 1 << 32
_BOOT_SPAN = 300 * 1200  # INITIAL_JIFFIES is 300 s before the 32-bit wrap; HZ is at most 1200


def hints(group: SuspectGroup) -> tuple[str, ...]:
    """Say what the text gives away about a group, a sentence each: limits first, then possible innocence."""
    return tuple(_limits(group.frames, group.members[0]) + _innocence(group))


def _limits(frames: Sequence[KmemleakFrame], first: Suspect) -> list[str]:
    found = []
    if not frames:
        found.append("no backtrace: allocated before stacks could be taken, or the text was cut")
    if first.truncated:
        found.append("the stack is cut at 16 frames: whoever called the outermost function is not shown")
    gone = sum(not f.resolved for f in frames)
    if gone:
        found.append(
            f"{gone} frame{'s' * (gone > 1)} without a name: the module was unloaded before kmemleak printed it; "
            "`kleaktrace run` keeps the names"
        )
    if first.kind == SuspectKind.PERCPU:
        found.append("a per-CPU object: the address is an offset, one copy of the size exists for every CPU")
    if first.kind == SuspectKind.PHYS:
        found.append("a block known by its physical address (memblock)")
    if first.comm in ("softirq", "hardirq") and first.pid == 0:
        found.append(f"allocated in a {first.comm}: comm and pid do not tell who asked")
    if any(f.symbol and _IRQ_ENTRY.fullmatch(f.symbol) for f in frames[1:]):
        found.append("frames below the interrupt entry belong to the code that was interrupted")
    return found


def _innocence(group: SuspectGroup) -> list[str]:
    found = []
    names = [f.symbol for f in group.frames if f.symbol]
    for pattern, what in _FALSE_POSITIVES:
        if any(pattern.fullmatch(name) for name in names):
            found.append(what)
            break
    if all(m.crc == 0 for m in group.members):
        found.append("crc 0, all bytes zero: such objects can be listed by their first scan already; scan again")
    ages = [m.age_s for m in group.members if m.age_s is not None]
    if ages and max(ages) < 10:
        found.append("younger than 10 s when printed: scan again before believing it")
    if all(_BOOT_WRAP - _BOOT_SPAN <= m.jiffies < _BOOT_WRAP for m in group.members):
        found.append("allocated within five minutes of boot")
    return found
