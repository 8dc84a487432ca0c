# SPDX-License-Identifier: GPL-2.0-or-later
"""Event streams of any length and steadiness: for measuring what batches cost, and for tests that need many events."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind

FIRST_NS = 1_000_000_000_000
TICK_NS = 500
"""Between two events: two million a second."""

_FIRST_ADDRESS = 0xFFFF888000000000
_SHORT_LIVES = 4096  # more than any short life in allocations, so that its address is free again by then
_MEAN_SHORT_LIFE = 20
_SPARE = 1 << 18
_TASKS, _CACHES, _SITES_A_STACK = 60, 40, 3
_PERCPU_IN = 1000


class EventLoad:
    """A machine at work with a steady number of outstanding allocations.

    Of the allocations, a share of `short_lived` is freed some twenty allocations later, its memory soon used again;
    each of the others takes the place of a long-lived one, which is freed. Stacks are used as unevenly as words
    (Zipf). Batches come in stream order.
    """

    def __init__(self, outstanding: int, short_lived: float = 0.9, stacks: int = 1000, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self._short_lived = short_lived
        self._allocations = 0
        addresses = self._addresses(outstanding + _SPARE + _SHORT_LIVES)
        self._short, self._spare, self._long = np.split(addresses, [_SHORT_LIVES, _SHORT_LIVES + _SPARE])
        self._short_at = 0
        self._pending = np.zeros(0, FREE)  # frees of short lives that end after the last batch
        self._sequence = 0
        self._stacks = self._shapes(stacks)
        weights = 1 / np.arange(1, stacks + 1)
        self._use = np.cumsum(weights / weights.sum())
        self._long_stacks = np.zeros(outstanding, np.intp)  # numbers of the stacks of `_long`

    def fill(self, events: int = 1 << 16) -> Iterator[Batch]:
        """The allocations that are outstanding at the start, in batches of so many events."""
        for start in range(0, self._long.size, events):
            addresses = self._long[start : start + events]
            stacks = self._long_stacks[start : start + events] = self._drawn(addresses.size)
            yield self._stamped(self._made(addresses, stacks), np.zeros(0, FREE))

    def batch(self, events: int) -> Batch:
        """The next `events` events or so, half of them allocations; replaces at most half of the long-lived."""
        count = events // 2
        short = self._random.random(count) < self._short_lived
        stacks = self._drawn(count)
        addresses, freed, freed_stacks = np.empty(count, np.uint64), np.empty(count, np.uint64), stacks.copy()
        addresses[short] = freed[short] = self._short_addresses(np.count_nonzero(short))
        slots = self._slots(np.count_nonzero(~short))
        freed[~short], freed_stacks[~short] = self._long[slots], self._long_stacks[slots]
        addresses[~short] = self._exchanged(slots, stacks[~short])
        allocations = self._made(addresses, stacks)
        frees = self._freed(freed, freed_stacks, short)
        end = np.uint64(2 * (self._allocations + count))
        frees = np.concatenate([self._pending, frees])
        self._pending = frees[frees["sequence"] >= end]
        return self._stamped(allocations, frees[frees["sequence"] < end])

    def _addresses(self, count: int) -> np.ndarray:
        """As the slab hands them out: scattered pages, neighbours within one."""
        pages = self._random.permutation(count // 16 + 1).astype(np.uint64)
        places = (pages[:, None] * np.uint64(4096) + np.arange(16, dtype=np.uint64) * np.uint64(256)).reshape(-1)
        return ~(places[:count] + np.uint64(_FIRST_ADDRESS))

    def _shapes(self, stacks: int) -> np.ndarray:
        """What the allocations of each stack have in common."""
        shapes = np.zeros(stacks, ALLOCATION)
        shapes["stack"] = self._random.integers(1, 1 << 63, stacks, np.uint64)
        shapes["call_site"] = 0xFFFFFFFF81000000 + self._random.integers(0, 1 << 24, stacks, np.uint64)
        shapes["kind"] = self._random.choice([Kind.KMALLOC, Kind.CACHE], stacks)
        shapes["cache"] = np.where(shapes["kind"] == Kind.CACHE, self._random.integers(1, _CACHES, stacks), 0)
        shapes["bytes_req"] = self._random.integers(8, 4000, stacks, np.uint64)
        shapes["bytes_alloc"] = (shapes["bytes_req"] + np.uint64(63)) & ~np.uint64(63)
        shapes["gfp_flags"] = self._random.choice([0xCC0, 0xDC0, 0x820], stacks)
        shapes["context"] = self._random.choice([Context.TASK, Context.TASK, Context.SOFTIRQ], stacks)
        return shapes

    def _drawn(self, count: int) -> np.ndarray:
        """Numbers of the stacks of so many allocations."""
        return np.searchsorted(self._use, self._random.random(count)).clip(max=self._stacks.size - 1)

    def _short_addresses(self, count: int) -> np.ndarray:
        places = (self._short_at + np.arange(count)) % _SHORT_LIVES
        self._short_at = (self._short_at + count) % _SHORT_LIVES
        return self._short[places]

    def _slots(self, count: int) -> np.ndarray:
        """So many of the long-lived, each once."""
        slots = np.unique(self._random.integers(0, self._long.size, 4 * count + 100))
        return self._random.permutation(slots)[:count]

    def _exchanged(self, slots: np.ndarray, stacks: np.ndarray) -> np.ndarray:
        """Replace the long-lived in these slots; returns the new addresses."""
        new, self._spare = np.split(np.concatenate([self._spare, self._long[slots]]), [slots.size])
        self._long[slots], self._long_stacks[slots] = new, stacks
        return new

    def _made(self, addresses: np.ndarray, stacks: np.ndarray) -> np.ndarray:
        """Allocations by stacks, given by their numbers."""
        allocations = self._stacks[stacks]
        allocations["object"] = addresses
        allocations["kind"][_is_percpu(addresses)] = Kind.PERCPU
        tasks = self._random.integers(0, _TASKS, addresses.size)
        allocations["tid"] = allocations["tgid"] = 1000 + tasks
        allocations["comm"] = np.array([b"task-%d" % n for n in range(_TASKS)])[tasks]
        allocations["cgroup"] = 1 + tasks % 5
        allocations["cpu"] = tasks % 2
        return allocations

    def _freed(self, addresses: np.ndarray, stacks: np.ndarray, short: np.ndarray) -> np.ndarray:
        """The frees that the next allocations bring, one each: places in the stream in `sequence`, not in order."""
        frees = np.zeros(addresses.size, FREE)
        frees["object"] = addresses
        lives = np.where(short, self._random.geometric(1 / _MEAN_SHORT_LIFE, addresses.size), 0)
        number = self._allocations + np.arange(addresses.size)
        frees["sequence"] = 2 * (number + lives.clip(max=_SHORT_LIVES // 2)) + 1
        frees["kind"][_is_percpu(addresses)] = Kind.PERCPU
        sites = stacks * _SITES_A_STACK + self._random.integers(0, _SITES_A_STACK, addresses.size)
        frees["call_site"] = 0xFFFFFFFF82000000 + 16 * sites.astype(np.uint64)
        frees["tid"] = frees["tgid"] = 1000 + stacks % _TASKS
        return frees

    def _stamped(self, allocations: np.ndarray, frees: np.ndarray) -> Batch:
        """Put a batch in order, with clocks and sequence numbers: a tick for each event."""
        allocations["sequence"] = 2 * (self._allocations + np.arange(allocations.size))
        self._allocations += allocations.size
        frees = frees[np.argsort(frees["sequence"], kind="stable")]
        order = np.argsort(np.concatenate([allocations["sequence"], frees["sequence"]]), kind="stable")
        sequence = np.empty(order.size, np.uint64)
        sequence[order] = np.arange(self._sequence, self._sequence + order.size)
        self._sequence += order.size
        for rows, places in ((allocations, sequence[: allocations.size]), (frees, sequence[allocations.size :])):
            rows["sequence"] = places
            rows["time_ns"] = FIRST_NS + places * np.uint64(TICK_NS)
            rows["jiffies"] = rows["time_ns"] // np.uint64(4_000_000)
        return Batch(allocations, frees)


def _is_percpu(addresses: np.ndarray) -> np.ndarray:
    return addresses % np.uint64(_PERCPU_IN) == 0
