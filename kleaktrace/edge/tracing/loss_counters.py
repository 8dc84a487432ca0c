# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's loss counters say: how many events were lost, why, and how many of them may have been frees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
_SKIPPED = "events during which all programs for them were at work"


@dataclass(frozen=True)
class LossCounters:
    """The counters at one moment. `skipped`: events that no program took, because all were at work (bpf/slab.c).

    `skipped_frees`: how many of those may have been frees, by allocator.
    """

    totals: Sequence[int] = (0,) * len(Counter)
    skipped: int = 0
    skipped_frees: Frees = (0,) * len(Allocator)

    @property
    def events(self) -> int:
        """All events lost."""
        return self.skipped + sum(self.totals[counter] for counter in _CAUSES)

    @property
    def frees(self) -> Frees:
        """As many of them at most were frees, by allocator."""
        counted = list(self.skipped_frees)
        for counter, (_, frees) in _CAUSES.items():
            if frees is not None:
                counted[frees] += self.totals[counter]
        return tuple(counted)

    @property
    def causes(self) -> tuple[LostEvents, ...]:
        """The events by why they were lost, most first."""
        found = [LostEvents(cause, self.totals[counter]) for counter, (cause, _) in _CAUSES.items()]
        found.append(LostEvents(_SKIPPED, self.skipped))
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
        *("second_kmalloc", "second_kmalloc_node", "second_kmem_cache_alloc", "second_kmem_cache_alloc_node"),
        *("second_kfree", "second_kmem_cache_free", "second_mm_page_alloc", "second_mm_page_free"),
        "first_mm_page_free",
    }
)
"""Programs whose missed runs are no loss.

Second programs only make good what first ones have missed (bpf/slab.c). What is skipped of frees of pages is mostly
such as nobody wants to know of; the others are made good, at the latest when the page is given out (bpf/pages.c).
"""


def missed_events(runs: Mapping[str, int]) -> dict[str, int]:
    """Of the missed runs of all programs by function, those of events that the program should have taken."""
    return {program: times for program, times in runs.items() if program not in MADE_GOOD}


def skipped_frees(missed: Mapping[str, int], skipped: int) -> Frees:
    """How many of the skipped events may have been frees, by allocator, from the missed runs of each program."""
    counted = dict.fromkeys(Allocator, 0)
    for program, times in missed.items():
        if program in FREES_OF:
            counted[FREES_OF[program]] += times
    return tuple(min(times, skipped) for times in counted.values())
