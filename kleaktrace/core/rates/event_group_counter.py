# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts allocations by what the event itself tells of whom they are for: comm, process, cgroup or cache."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import Interner
from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.events.records import Batch, Context, Kind, Rows, comm_text
from kleaktrace.core.grouping.group_labels import INTERRUPTS, GroupBy, cache_label, interrupt_label, process_label
from kleaktrace.core.ledger.stack_counters import StackSnapshot
from kleaktrace.core.symbols.kernel_names import KernelNames

MOST_GROUPS = 1 << 16
"""Groups told apart; what comes later is counted together."""

OTHERS = "(others, which came later)"

_INTERRUPT = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
"""Second word of what an interrupt allocated; a comm ends in NUL, the other groups have 0."""

_LARGE = 8193
"""Any size of a kmalloc that goes by the cache: mm/slub.c hands it to the page allocator."""


class GroupCounter:
    """Allocations of each group so far, and, from what is outstanding, its frees.

    What an interrupt allocates is not counted for the task that it came upon, but by its context; where events do not
    tell that, by the stack's (`context_of`, by its key). Of a large kmalloc that fires two events
    (`event_matching.is_double_event`) both are counted, as if the first had been freed.
    Memory: some 80 bytes a group, `MOST_GROUPS` groups.
    """

    def __init__(self, by: GroupBy, context_of: Callable[[int], Context]) -> None:
        self.by = by
        self._context_of = context_of
        self._groups = Interner(words=2)
        self._allocations = np.zeros(MOST_GROUPS + 1, np.uint64)
        self._bytes = np.zeros(MOST_GROUPS + 1, np.uint64)
        self._comms = np.zeros(MOST_GROUPS + 1, "S16")

    def __len__(self) -> int:
        return min(len(self._groups), MOST_GROUPS) + 1

    def add(self, batch: Batch) -> None:
        """Count a batch's allocations."""
        rows = batch.allocations
        if not rows.size:
            return
        numbers = self._number(rows)
        count = len(self)
        self._allocations[:count] += np.bincount(numbers, minlength=count).astype(np.uint64)
        self._bytes[:count] += np.bincount(numbers, rows["bytes_alloc"], count).astype(np.uint64)
        if self.by is GroupBy.PID:
            self._comms[numbers] = rows["comm"]

    def snapshot(self, outstanding: Rows) -> StackSnapshot:
        """The counters, by group number + 1 in place of stacks. `outstanding`: all OUTSTANDING rows of the ledger."""
        numbers, count = self._number(outstanding), len(self)
        alive = np.bincount(numbers, minlength=count).astype(np.uint64)
        alive_bytes = np.bincount(numbers, outstanding["bytes_alloc"], count).astype(np.uint64)
        allocations, size = self._allocations[:count], self._bytes[:count]
        return StackSnapshot(
            stacks=np.arange(1, count + 1, dtype=np.uint64),
            allocations=allocations.copy(),
            frees=allocations - np.minimum(alive, allocations),
            implied_frees=np.zeros(count, np.uint64),
            bytes_allocated=np.maximum(size, alive_bytes),
            bytes_closed=np.maximum(size, alive_bytes) - alive_bytes,
        )

    def labels(self, names: KernelNames, cgroup_path: Callable[[int], str]) -> list[str]:
        """Names of the groups, by number. Two groups may have one name: caches come and go."""
        first, second = (self._groups.word(word)[: len(self) - 1] for word in range(2))
        return [OTHERS] + [
            interrupt_label(Context(a)) if b == int(_INTERRUPT) else self._label(number, a, b, names, cgroup_path)
            for number, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True), start=1)
        ]

    def reclaimable(self, names: KernelNames) -> U64:
        """Those of the groups by cache, by number + 1, that are caches which the kernel shrinks by itself."""
        known = (names.caches.get(key) for key in self._groups.word(0)[: len(self) - 1].tolist())
        shrinks = [cache is not None and cache.reclaimable for cache in known]
        return np.flatnonzero(shrinks).astype(np.uint64) + np.uint64(2)

    def _label(
        self, number: int, first: int, second: int, names: KernelNames, cgroup_path: Callable[[int], str]
    ) -> str:
        match self.by:
            case GroupBy.COMM:
                return comm_text(first.to_bytes(8, sys.byteorder) + second.to_bytes(8, sys.byteorder))
            case GroupBy.PID:
                return process_label(first, comm_text(bytes(self._comms[number])))
            case GroupBy.CGROUP:
                return cgroup_path(first)
            case _:
                kind, size = divmod(second, 1 << 32)
                return cache_label(names.cache(kind, first, size))

    def _number(self, rows: Rows) -> Index:
        """The group of each row; 0 for those that are one too many."""
        full = len(self._groups) >= MOST_GROUPS
        words = self._words(rows)
        numbers = (self._groups.lookup(*words) if full else self._groups.intern(*words)) + 1
        numbers[numbers > MOST_GROUPS] = 0
        return numbers

    def _words(self, rows: Rows) -> tuple[U64, U64]:
        nothing = np.zeros(rows.size, np.uint64)
        if self.by is GroupBy.CACHE:
            return _cache_words(rows)
        if self.by is GroupBy.COMM:
            comm = np.ascontiguousarray(rows["comm"]).view(np.uint64).reshape(-1, 2)
            first, second = comm[:, 0].copy(), comm[:, 1].copy()
        elif self.by is GroupBy.PID:
            first, second = rows["tgid"].astype(np.uint64), nothing
        else:
            first, second = rows["cgroup"].astype(np.uint64), nothing
        contexts = self._contexts(rows)
        interrupt = np.isin(contexts, INTERRUPTS)
        first[interrupt], second[interrupt] = contexts[interrupt], _INTERRUPT
        return first, second

    def _contexts(self, rows: Rows) -> npt.NDArray[np.uint8]:
        contexts: npt.NDArray[np.uint8] = rows["context"]
        untold = contexts == Context.UNKNOWN
        if untold.any():
            stacks, places = np.unique(rows["stack"][untold], return_inverse=True)
            contexts = contexts.copy()
            contexts[untold] = np.array([self._context_of(stack) for stack in stacks.tolist()], np.uint8)[places]
        return contexts


def _cache_words(rows: Rows) -> tuple[U64, U64]:
    kinds = rows["kind"].astype(np.uint64)
    of_cache, by_size = np.isin(kinds, (Kind.CACHE, Kind.PAGES)), kinds == Kind.KMALLOC
    sizes = np.where(by_size, np.minimum(rows["bytes_alloc"], np.uint64(_LARGE)), np.uint64(0))
    return np.where(of_cache, rows["cache"], np.uint64(0)), kinds << np.uint64(32) | sizes
