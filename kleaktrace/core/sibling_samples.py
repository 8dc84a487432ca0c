"""Samples of the allocations that were freed, per call stack: what a leak is compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleaktrace.core.address_index import Index, grown
from kleaktrace.core.events import Rows

TRAITS = np.dtype(
    [
        ("comm", "S16"),
        ("bytes_req", "<u8"),
        ("gfp_flags", "<u4"),
        ("cpu", "<u2"),
        ("context", "u1"),
        ("taken", "u1"),  # 1: this place of the table holds a sample
    ]
)
"""What allocations from one call stack may have in common, 32 bytes."""

Traits = npt.NDArray[np.void]
"""A structured array of TRAITS."""

_PER_EPOCH = 16
_PER_STACK = 2 * _PER_EPOCH
_EPOCH = 32
"""Batches in which a stack is sampled once: what is freed all the time needs no more."""

_COMPARED = ("comm", "bytes_req", "gfp_flags", "cpu", "context")


class SiblingSamples:
    """Up to 32 recent freed allocations of every stack: 1 KiB for each stack that ever freed one.

    Time goes in epochs of 32 batches: of each stack 16 samples of this epoch are kept, and 16 of the one before.
    """

    def __init__(self) -> None:
        self._table: npt.NDArray[np.void] = np.zeros((0, _PER_STACK), TRAITS)
        self._seen = np.zeros(0, np.intp)  # by stack: freed in this epoch before it had enough
        self._half = self._batches = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._table.nbytes + self._seen.nbytes

    def choose(self, stacks: Index) -> Index:
        """Which of the freed allocations, given by their stacks' numbers, to sample: at most 16 for each stack.

        None of stacks that have enough of this epoch; of the others, the last one of every sixteenth place.
        """
        most = int(stacks.max(initial=-1)) + 1
        if most > self._seen.size:
            self._make_room(most)
        wanted = (self._seen.take(stacks) < _PER_EPOCH).nonzero()[0]
        of_wanted = stacks[wanted]
        np.add.at(self._seen, of_wanted, 1)
        cells = of_wanted * _PER_EPOCH + wanted % _PER_EPOCH
        last_first = np.unique(cells[::-1], return_index=True)[1]
        return np.sort(wanted[::-1][last_first])

    def add(self, stacks: Index, chosen: Index, rows: Rows) -> None:
        """Keep samples: `rows` are the allocations at the `chosen` places of a batch, `stacks` their numbers."""
        samples = np.ones(chosen.size, TRAITS)
        for name in _COMPARED:
            samples[name] = rows[name]
        self._table[stacks, chosen % _PER_EPOCH + self._half * _PER_EPOCH] = samples

    def next_batch(self) -> None:
        """Begin an epoch when it is time: from then on, the older half is overwritten."""
        self._batches += 1
        if self._batches % _EPOCH == 0:
            self._seen[:] = 0
            self._half ^= 1

    def _make_room(self, stacks: int) -> None:
        room = stacks * 5 // 4 + 16
        self._table = grown(self._table, room, 1)
        self._seen = grown(self._seen, room, 1)

    def of(self, stack: int) -> Traits:
        """The samples of a stack, by its number."""
        if not 0 <= stack < len(self._table):
            return np.zeros(0, TRAITS)
        row: Traits = self._table[stack]
        taken: Traits = row[row["taken"] == 1]
        return taken
