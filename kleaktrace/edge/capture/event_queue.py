# SPDX-License-Identifier: GPL-2.0-or-later
"""Hands the drain's batches over to the thread that keeps them."""

from __future__ import annotations

from collections import deque

from kleaktrace.core.events.records import Batch
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.kernel_names import KernelNames

MOST_BYTES = 512 << 20
"""Waiting to be written. If it is more, the disk can't keep up: the drain must not wait, so it ends there."""


class EventQueue:
    """An observer of one session: filled by the drain, emptied by one other thread."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._bytes = 0
        self._taken = 0
        self.overrun = False
        """Whether there were too many: what came later was not kept."""

    def begin(self, names: KernelNames) -> None:
        """Of no interest: a capture has names of its own."""

    def batch(self, batch: Batch) -> None:
        """Keep it until it is taken."""
        if not batch.size or self.overrun:
            return
        self._bytes += batch.allocations.nbytes + batch.frees.nbytes
        if self._bytes - self._taken > MOST_BYTES:
            self.overrun = True
        else:
            self._batches.append(batch)

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """Of no interest: each event is kept."""

    def take(self) -> list[Batch]:
        """All that wait."""
        batches = [self._batches.popleft() for _ in range(len(self._batches))]
        self._taken += sum(batch.allocations.nbytes + batch.frees.nbytes for batch in batches)
        return batches
