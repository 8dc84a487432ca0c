"""Samples of the allocations that were freed, per call stack: what a leak is compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleaktrace.core.address_index import Index
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

_PER_BATCH = 16
_PER_STACK = 2 * _PER_BATCH
_COMPARED = ("comm", "bytes_req", "gfp_flags", "cpu", "context")


class SiblingSamples:
    """Up to 32 recent freed allocations of every stack: 1 KiB for each stack that ever freed one."""

    def __init__(self) -> None:
        self._table: npt.NDArray[np.void] = np.zeros((0, _PER_STACK), TRAITS)
        self._half = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._table.nbytes

    def choose(self, stacks: Index) -> Index:
        """Which of the freed allocations, given by their stacks' numbers, to sample: at most 16 for each stack.

        The last one of every sixteenth place wins, which takes two passes over the batch and no sorting.
        """
        if not stacks.size:
            return np.zeros(0, np.intp)
        places = np.arange(stacks.size, dtype=np.intp)
        cells = stacks * _PER_BATCH + places % _PER_BATCH
        last = np.zeros(int(stacks.max() + 1) * _PER_BATCH, np.intp)
        last[cells] = places
        return np.flatnonzero(last[cells] == places)

    def add(self, stacks: Index, chosen: Index, rows: Rows) -> None:
        """Keep samples: `rows` are the allocations at the `chosen` places of a batch, `stacks` their numbers."""
        if not chosen.size:
            return
        most = int(stacks.max()) + 1
        if most > len(self._table):
            grown = np.zeros((most * 5 // 4 + 16, _PER_STACK), TRAITS)
            grown[: len(self._table)] = self._table
            self._table = grown
        samples = np.ones(chosen.size, TRAITS)
        for name in _COMPARED:
            samples[name] = rows[name]
        self._table[stacks, chosen % _PER_BATCH + self._half * _PER_BATCH] = samples

    def next_batch(self) -> None:
        """From now on, overwrite the older half."""
        self._half ^= 1

    def of(self, stack: int) -> Traits:
        """The samples of a stack, by its number."""
        if not 0 <= stack < len(self._table):
            return np.zeros(0, TRAITS)
        row: Traits = self._table[stack]
        taken: Traits = row[row["taken"] == 1]
        return taken
