# SPDX-License-Identifier: GPL-2.0-or-later
"""What did not reach us, by what it was: a lost allocation hides a leak, a lost free makes one of what is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from kleaktrace.core.events.records import Kind


class Allocator(IntEnum):
    """Allocators whose objects only their own frees can free: kfree and kmem_cache_free take each other's."""

    SLAB = 0
    VMALLOC = 1
    PERCPU = 2
    PAGES = 3

    @classmethod
    def of(cls, kind: int) -> Allocator:
        """The one that a kind of event is about."""
        own = {Kind.VMALLOC: cls.VMALLOC, Kind.PERCPU: cls.PERCPU, Kind.PAGES: cls.PAGES}
        return own.get(Kind(kind), cls.SLAB)


Frees = tuple[int, ...]
"""A count for each `Allocator`."""


def added(first: Frees, second: Frees) -> Frees:
    """The sum, one by one."""
    return tuple(one + other for one, other in zip(first, second, strict=True))


@dataclass(frozen=True, slots=True)
class LostEvents:
    """Events lost for one reason. `cause` is what follows their number: "vmalloc returns that no probe saw"."""

    cause: str
    events: int


@dataclass(frozen=True, slots=True)
class LossWindow:
    """A stretch of time (ns, CLOCK_MONOTONIC) in which `events` events did not reach us.

    `frees`: as many of them at most were frees, by allocator; None: that is not known, any of them may have been.
    """

    from_ns: int
    to_ns: int
    events: int
    frees: Frees | None = None

    def frees_of(self, allocator: Allocator) -> int:
        """So many of them at most were frees of this allocator."""
        return self.events if self.frees is None else min(self.frees[allocator], self.events)

    @property
    def all_frees(self) -> int:
        """So many of them at most were frees."""
        return self.events if self.frees is None else min(sum(self.frees), self.events)

    def merged(self, other: LossWindow) -> LossWindow:
        """One window for both, and what lies between."""
        frees = None
        if self.frees is not None and other.frees is not None:
            frees = added(self.frees, other.frees)
        events = self.events + other.events
        return LossWindow(min(self.from_ns, other.from_ns), max(self.to_ns, other.to_ns), events, frees)


@dataclass(frozen=True, slots=True)
class Loss:
    """What did not reach us.

    events: allocations and frees that were not handed over. stacks: allocations whose stack could not be taken.
    names: stacks, caches or modules left nameless. windows: when events were lost, oldest first. causes: the events by
    why they were lost, as far as that is known.
    """

    events: int = 0
    stacks: int = 0
    names: int = 0
    windows: tuple[LossWindow, ...] = field(default=())
    causes: tuple[LostEvents, ...] = field(default=())
