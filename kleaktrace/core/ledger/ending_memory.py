# SPDX-License-Identifier: GPL-2.0-or-later
"""Which endings are remembered: the last ones of what lived long enough, and all at addresses that are watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.hash_index import AddressIndex
from kleaktrace.core.arrays.types import U64, Index, Mask
from kleaktrace.core.events.records import Kind, Rows
from kleaktrace.core.ledger.free_history import CLOSED, Closed, ClosedHistory, Ending
from kleaktrace.core.ledger.outstanding_table import keys_of, object_keys, take_rows

HISTORY_CAPACITY = 1 << 18
HISTORY_MIN_LIFETIME_NS = 1_000_000_000
"""Endings of what lived shorter are not kept one by one: kmemleak only lists objects that are older than 5 s
when a scan starts (MSECS_MIN_AGE, mm/kmemleak.c), and there are a thousand times as many."""


@dataclass(frozen=True, slots=True)
class Endings:
    """Endings of allocations, in parallel arrays."""

    closed: Closed
    sequence: U64
    """Place in the stream of the event that ended each."""
    lifetimes: U64


def describe(allocations: Rows, closed: Closed) -> None:
    """Fill in which allocations they were that ended."""
    for name in ("object", "time_ns", "stack", "bytes_req", "bytes_alloc", "jiffies", "kind"):
        closed[name] = allocations[name]


def ended(closed: Closed, closers: Rows, lifetimes: U64, ending: Ending) -> Endings:
    """Add to `closed` how the allocations ended: by the frees or allocations `closers`."""
    closed["closed_ns"] = closers["time_ns"]
    closed["closed_tid"] = closers["tid"]
    if ending is not Ending.IMPLIED:
        closed["free_site"] = closers["call_site"]
    closed["ending"] = ending
    return Endings(closed, np.ascontiguousarray(closers["sequence"]), lifetimes)


def unmatched(frees: Rows) -> Endings:
    """Endings of what nobody knows: all there is are these frees."""
    closed = np.zeros(frees.size, CLOSED)
    closed["object"], closed["kind"] = frees["object"], frees["kind"]
    return ended(closed, frees, np.zeros(frees.size, np.uint64), Ending.UNMATCHED)


def lifetimes_of(born_ns: U64, died_ns: U64) -> U64:
    """Return ages at death; 0 where two CPUs' clocks put the death first."""
    lifetimes: U64 = np.maximum(died_ns, born_ns) - born_ns
    return lifetimes


class EndingMemory:
    """The last endings of what lived `min_lifetime_ns` or longer, and the first one at each watched address since."""

    def __init__(self, capacity: int = HISTORY_CAPACITY, min_lifetime_ns: int = HISTORY_MIN_LIFETIME_NS) -> None:
        self.history = ClosedHistory(capacity)
        self._min_lifetime = np.uint64(min_lifetime_ns)
        self._watched = AddressIndex()
        self._watched_endings: list[Closed] = []

    @classmethod
    def restored(cls, endings: Closed, forgotten_ns: int, watched: Closed) -> EndingMemory:
        """One that answers as that did whose endings these are."""
        made = cls()
        made.history = ClosedHistory.restored(HISTORY_CAPACITY, endings, forgotten_ns)
        made._watched_endings = [watched]
        return made

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.history.nbytes + self._watched.nbytes + sum(ending.nbytes for ending in self._watched_endings)

    @property
    def is_watching(self) -> bool:
        """Whether any address is watched that has not had its ending."""
        return len(self._watched) > 0

    def of(self, addresses: U64, percpu: Mask) -> Closed:
        """The remembered endings at the addresses, oldest first."""
        return self.history.of(addresses, percpu, Kind.PERCPU)

    def watch(self, addresses: U64, percpu: Mask) -> None:
        """Watch these addresses, as far as they are not watched yet."""
        keys = np.unique(object_keys(addresses, percpu))
        self._watched.insert(keys[self._watched.lookup(keys) < 0])

    def at_watched(self) -> Closed:
        """What came at watched addresses, oldest first."""
        return np.concatenate([np.zeros(0, CLOSED), *self._watched_endings])

    def worth_keeping(self, lifetimes: U64, keys: Callable[[], U64]) -> Index:
        """Which endings the history or a watch may want; `keys` are the objects', asked for only if need be."""
        worth = lifetimes >= self._min_lifetime
        if self.is_watching:
            worth |= self._watched.lookup(keys()) >= 0
        return np.flatnonzero(worth)

    def remember(self, endings: list[Endings]) -> None:
        """Put the endings of one batch where they belong."""
        sequence = np.concatenate([ending.sequence for ending in endings])
        if not sequence.size:
            return
        order = np.argsort(sequence)
        closed = take_rows(np.concatenate([ending.closed for ending in endings]), order)
        lived = np.concatenate([ending.lifetimes for ending in endings])[order]
        matched = closed["ending"] != Ending.UNMATCHED
        lasting = np.flatnonzero(matched & (lived >= self._min_lifetime))
        self.history.add(take_rows(closed, lasting))
        if self.is_watching:
            keys, first = np.unique(keys_of(closed), return_index=True)
            rows, slots = self._watched.find(keys)
            seen = rows >= 0
            self._watched_endings.append(closed[np.sort(first[seen])])
            self._watched.remove(rows[seen], slots[seen])
