# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's loss counters say: how many events were lost, why, and how many of them may have been frees."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kleaktrace.core.events.loss import Allocator, Frees, LossWindow, LostEvents
from kleaktrace.edge.tracing.abi import Counter

# By counter: what follows the number in a report, and whose objects the lost event would have freed.
_CAUSES: Mapping[Counter, tuple[str, Allocator | None]] = {
    Counter.FULL_RING_KMALLOC: ("kmallocs for which the ring had no room", None),
    Counter.FULL_RING_CACHE_ALLOC: ("slab cache allocations for which the ring had no room", None),
    Counter.FULL_RING_VMALLOC: ("vmallocs for which the ring had no room", None),
    Counter.FULL_RING_PERCPU_ALLOC: ("per-CPU allocations for which the ring had no room", None),
    Counter.FULL_RING_PAGE_ALLOC: ("page allocations for which the ring had no room", None),
    Counter.FULL_RING_KFREE: ("kfrees for which the ring had no room", Allocator.SLAB),
    Counter.FULL_RING_CACHE_FREE: ("slab cache frees for which the ring had no room", Allocator.SLAB),
    Counter.FULL_RING_VFREE: ("vfrees for which the ring had no room", Allocator.VMALLOC),
    Counter.FULL_RING_PERCPU_FREE: ("per-CPU frees for which the ring had no room", Allocator.PERCPU),
    Counter.FULL_RING_PAGE_FREE: ("page frees for which the ring had no room", Allocator.PAGES),
    Counter.FULL_TABLE: ("allocations for which the table of what passed the filters had no room", None),
    Counter.VMALLOC_UNCALLED: ("vmallocs whose call no kprobe saw", None),
    Counter.VMALLOC_UNRETURNED: ("vmallocs whose return no kretprobe saw", None),
    Counter.BULK_ALLOC_UNCALLED: ("bulk allocations whose call no kprobe saw", None),
    Counter.BULK_ALLOC_UNRETURNED: ("bulk allocations whose return no kretprobe saw", None),
    Counter.SHEAF_FREE_UNCALLED: ("kfree_rcus whose call no kprobe saw", Allocator.SLAB),
    Counter.SHEAF_FREE_UNRETURNED: ("kfree_rcus whose return no kretprobe saw", Allocator.SLAB),
    Counter.LONG_BULK_ALLOC: ("bulk allocations of too many objects", None),
    Counter.LONG_BULK_FREE: ("bulk frees of too many objects", Allocator.SLAB),
    Counter.BULK_PAGES_UNCALLED: ("bulk allocations of pages whose call no kprobe saw", None),
    Counter.BULK_PAGES_UNRETURNED: ("bulk allocations of pages whose return no kretprobe saw", None),
}
# By the first of the two programs for an event (bpf/slab.c, RECORD_ONCE and RECORD_FREE_ONCE): what counts the events
# that the second one took, and what they are called.
_SECONDS: Mapping[str, tuple[Counter, str]] = {
    "first_kmalloc": (Counter.TAKEN_KMALLOC, "kmallocs"),
    "first_kmalloc_node": (Counter.TAKEN_KMALLOC_NODE, "kmallocs of a node"),
    "first_kmem_cache_alloc": (Counter.TAKEN_CACHE_ALLOC, "slab cache allocations"),
    "first_kmem_cache_alloc_node": (Counter.TAKEN_CACHE_ALLOC_NODE, "slab cache allocations of a node"),
    "first_kfree": (Counter.TAKEN_KFREE, "kfrees"),
    "first_kmem_cache_free": (Counter.TAKEN_CACHE_FREE, "slab cache frees"),
    "first_mm_page_alloc": (Counter.TAKEN_PAGE_ALLOC, "page allocations"),
    "kfunc__kmem_cache_free_bulk": (Counter.TAKEN_BULK_FREE, "bulk frees"),
    "kretfunc____kfree_rcu_sheaf": (Counter.TAKEN_SHEAF_FREE, "kfree_rcus"),
    "kfunc__kvfree_call_rcu": (Counter.TAKEN_RCU_FREE, "kfree_rcus"),
    "kfunc__vfree": (Counter.TAKEN_VFREE, "vfrees"),
    "kfunc__vfree_atomic": (Counter.TAKEN_VFREE_ATOMIC, "vfrees in interrupts"),
}
_ALL_AT_WORK = "during which both programs for them were at work"


@dataclass(frozen=True)
class LossCounters:
    """The counters at one moment. `skipped`: by program, events that it missed, and no other took (bpf/slab.c)."""

    totals: Sequence[int] = (0,) * len(Counter)
    skipped: Mapping[str, int] = field(default_factory=dict)

    def since(self, before: LossCounters) -> LossCounters:
        """The same, without what programs had missed before."""
        skipped = {program: max(events - before.skipped.get(program, 0), 0) for program, events in self.skipped.items()}
        return LossCounters(self.totals, skipped)

    @property
    def all_skipped(self) -> int:
        """Events that no program took, all together."""
        return sum(self.skipped.values())

    @property
    def events(self) -> int:
        """All events lost."""
        return self.all_skipped + sum(self.totals[counter] for counter in _CAUSES)

    @property
    def frees(self) -> Frees:
        """As many of them were frees, by allocator."""
        counted = dict.fromkeys(Allocator, 0)
        for counter, (_, frees) in _CAUSES.items():
            if frees is not None:
                counted[frees] += self.totals[counter]
        for program, events in self.skipped.items():
            if program in FREES_OF:
                counted[FREES_OF[program]] += events
        return tuple(counted.values())

    @property
    def causes(self) -> tuple[LostEvents, ...]:
        """The events by why they were lost, most first."""
        found = [LostEvents(cause, self.totals[counter]) for counter, (cause, _) in _CAUSES.items()]
        found += [LostEvents(_skipped_by(program), events) for program, events in self.skipped.items()]
        return tuple(sorted((lost for lost in found if lost.events), key=lambda lost: -lost.events))

    def window_since(self, before: LossCounters, from_ns: int, to_ns: int) -> LossWindow | None:
        """What was lost between two moments; None: nothing."""
        events = self.events - before.events
        if events <= 0:
            return None
        frees = tuple(max(now - then, 0) for now, then in zip(self.frees, before.frees, strict=True))
        return LossWindow(from_ns, to_ns, events, frees)


# Programs by their function (bpf/*.c): a test holds that they are all of the C side.
FREES_OF: Mapping[str, Allocator] = {
    "first_kfree": Allocator.SLAB,
    "first_kmem_cache_free": Allocator.SLAB,
    "kfunc__kmem_cache_free_bulk": Allocator.SLAB,
    "on_kmem_cache_free_bulk": Allocator.SLAB,
    "kretfunc____kfree_rcu_sheaf": Allocator.SLAB,
    "on_sheaf_free_entry": Allocator.SLAB,
    "on_sheaf_free_return": Allocator.SLAB,
    "kfunc__kvfree_call_rcu": Allocator.SLAB,
    "on_kvfree_call_rcu": Allocator.SLAB,
    "kfunc__vfree": Allocator.VMALLOC,
    "on_vfree_entry": Allocator.VMALLOC,
    "kfunc__vfree_atomic": Allocator.VMALLOC,
    "on_vfree_atomic_entry": Allocator.VMALLOC,
    "on_free_vmap_area_noflush": Allocator.VMALLOC,
    "on_percpu_free": Allocator.PERCPU,
}
"""Whose objects the events free for which a program is run. What is not in it frees nothing."""

MADE_GOOD = frozenset(
    {
        *(re.sub("^(first_|kfunc__|kretfunc__)", "second_", first) for first in _SECONDS),
        *("first_mm_page_free", "second_mm_page_free"),
    }
)
"""Programs whose missed runs are no loss.

Second programs only make good what first ones have missed (bpf/slab.c). What is skipped of frees of pages is mostly
such as nobody wants to know of; the others are made good, at the latest when the page is given out (bpf/pages.c).
"""


def skipped_events(runs: Mapping[str, int], totals: Sequence[int]) -> dict[str, int]:
    """By program, how many events of the missed runs of all programs no second one took.

    Below 0: a second program was attached that took what the first one had not missed.
    """
    return {
        program: times - (totals[_SECONDS[program][0]] if program in _SECONDS else 0)
        for program, times in runs.items()
        if program not in MADE_GOOD
    }


def seconds_took(totals: Sequence[int]) -> list[int]:
    """What second programs have made good so far, each."""
    return [totals[counter] for counter, _ in _SECONDS.values()]


def _skipped_by(program: str) -> str:
    if program in _SECONDS:
        return f"{_SECONDS[program][1]} {_ALL_AT_WORK}"
    return f"events during which the only program for them was at work ({program})"
