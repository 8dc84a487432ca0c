# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts suspects with identical backtraces together, and says what their text can tell beyond the words.

One leaking line of code usually lists hundreds of objects; a group is what a person looks at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.symbols.requesters import is_allocator, requester_place


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
        """Bytes of all objects: those that the log only counts are of the size of the one before them."""
        return sum(m.size * (1 + m.more) for m in self.members)

    @property
    def sizes(self) -> Counter[int]:
        """How many objects there are of each size in bytes."""
        sizes: Counter[int] = Counter()
        for member in self.members:
            sizes[member.size] += 1 + member.more
        return sizes

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

    @property
    def requester_at(self) -> int | None:
        """The index of the innermost frame that asked in its own interest (`requester_place`), or that has no name."""
        return requester_place([(frame.symbol, bool(self._module_of(at))) for at, frame in enumerate(self.frames)])

    @property
    def requester(self) -> KmemleakFrame | None:
        """Who asked for the memory; None if no frame tells."""
        return None if self.requester_at is None else self.frames[self.requester_at]

    @property
    def own_frames(self) -> tuple[KmemleakFrame, ...]:
        """The frames up to an interrupt's entry: below it is what was interrupted."""
        entry = next((at for at, f in enumerate(self.frames) if f.symbol and _IRQ_ENTRY.fullmatch(f.symbol)), None)
        return self.frames if entry is None else self.frames[: entry + 1]

    @property
    def caller(self) -> KmemleakFrame | None:
        """The innermost frame of a module, if the kernel's own code asked on its behalf."""
        at = self.requester_at
        if at is None or self.module or not self.frames[at].resolved:
            return None
        return next((frame for frame in self.own_frames[at + 1 :] if frame.module or not frame.resolved), None)

    @property
    def module(self) -> str | None:
        """The module that the requester is of: None if it is of the kernel itself, or has no name."""
        return None if self.requester_at is None else self._module_of(self.requester_at)

    def _module_of(self, at: int) -> str | None:
        """The module of a frame: an inlined one is of that of the frame that it is a part of."""
        frame = self.frames[at]
        if frame.module or not frame.inline:
            return frame.module
        return next((outer.module for outer in self.frames[at + 1 :] if not outer.inline), None)


def group(suspects: Iterable[Suspect]) -> tuple[SuspectGroup, ...]:
    """Group by kind and backtrace, most bytes first. Inlined frames, which only decoders add, don't count."""
    together: dict[tuple[object, ...], list[Suspect]] = {}
    for suspect in suspects:
        stack = tuple(frame.text for frame in suspect.frames if not frame.inline)
        key = (suspect.kind, stack or suspect.address)
        together.setdefault(key, []).append(suspect)
    groups = [SuspectGroup(g[0].kind, g[0].frames, tuple(g)) for g in together.values()]
    return tuple(sorted(groups, key=lambda g: -g.bytes))


_IRQ_ENTRY = re.compile(
    r"__irq_svc|__irq_usr|el[01]h?(?:_64|t_64)?_irq\w*|asm_\w*interrupt\w*|handle_int|plat_irq_dispatch|ret_from_intr"
    r"|(?:smp_)?(?:apic_timer|call_function|reschedule|common|hardware)_interrupt\w*|do_IRQ|call_do_irq|xen_\w*_upcall"
)
_FALSE_POSITIVES = (
    (
        re.compile(r"setup_zone_pageset|setup_per_cpu_pageset"),
        "a known false positive: the pagesets of memory zones are kept where kmemleak does not look",
    ),
    (
        re.compile(
            r"kvmppc_\w+|_*(?:pte|pmd|pud|p4d|pgd)_alloc\w*|\w*alloc_pgtable\w*|\w*io_?pgtable\w*|\w*iommu\w*map\w*"
        ),
        "often a false positive: page tables hold physical addresses, which kmemleak does not follow",
    ),
    (
        re.compile(r"dma_pool_alloc\w*|dma_alloc_\w+|\w*virtqueue_add\w*"),
        "may be a false positive: a device may be the only one to hold the pointer, as a bus address",
    ),
    (
        re.compile(r"kvfree_call_rcu|call_rcu\w*|kfree_rcu\w*"),
        "may be on its way through RCU: see whether a later scan still lists it",
    ),
)
_INITCALL = "do_one_initcall"
_BOOT_WRAP = 1 << 32
_BOOT_SPAN = 300 * 1200  # INITIAL_JIFFIES is 300 s before the 32-bit wrap; HZ is at most 1200


def hints(group: SuspectGroup) -> tuple[str, ...]:
    """Say what the text gives away about a group, a sentence each: limits first, then possible innocence."""
    return tuple(_limits(group.frames, group.members[0]) + _innocence(group))


def _limits(frames: Sequence[KmemleakFrame], first: Suspect) -> list[str]:
    found = []
    if not frames:
        found.append(
            "no backtrace to be read: kmemleak has none of very early allocations, or the text is cut or damaged"
        )
    if first.truncated:
        found.append("the stack is cut at 16 frames: whoever called the outermost function is not shown")
    found += _nameless(frames)
    if first.kind == SuspectKind.PERCPU:
        found.append("a per-CPU object: the address is an offset, one copy of the size exists for every CPU")
    if first.kind == SuspectKind.PHYS:
        found.append("a block known by its physical address (memblock)")
    if first.comm in ("softirq", "hardirq") and first.pid == 0:
        found.append(f"allocated in a {first.comm}: comm and pid do not tell who asked")
    if any(f.symbol and _IRQ_ENTRY.fullmatch(f.symbol) for f in frames[1:]):
        found.append("frames below the interrupt entry belong to the code that was interrupted")
    return found


def _nameless(frames: Sequence[KmemleakFrame]) -> list[str]:
    """Why frames have no name: their module is gone, or they are of code that is freed once it has run."""
    init = {
        index
        for index, (frame, caller) in enumerate(pairwise(frames))
        if not frame.resolved and caller.symbol and caller.symbol.startswith(_INITCALL)
    }
    gone = sum(not frame.resolved for index, frame in enumerate(frames) if index not in init)
    found = []
    if gone:
        gone += len(init)
        found.append(
            f"{gone} frame{'s' * (gone > 1)} without a name: the module was unloaded before kmemleak printed it; "
            "`kleaktrace run` keeps the names"
        )
    elif init:
        within = next((f.module for f in frames[: min(init)][::-1] if f.module), None)
        found.append(
            f"the frame without a name is {f'of [{within}]: ' if within else ''}the init function, whose code is freed "
            f"when it has run{'' if within else ', unless its whole module was unloaded'}"
        )
    return found


def _innocence(group: SuspectGroup) -> list[str]:
    found = []
    # Further out stands what called for other reasons: it says nothing of this memory.
    near = group.frames if group.requester_at is None else group.frames[: group.requester_at + 1]
    names = [f.symbol for f in near if f.symbol]
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
