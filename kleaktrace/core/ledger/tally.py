# SPDX-License-Identifier: GPL-2.0-or-later
"""Outstanding allocations that look the same to a reader, counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import Interner, grown
from kleaktrace.core.arrays.types import F64, U64, Index
from kleaktrace.core.events.records import Rows


@dataclass(frozen=True, slots=True)
class Tally:
    """Outstanding allocations that look the same to a reader, counted; arrays run parallel.

    `rows` are OUTSTANDING rows, one for all that agree with it in stack, cache, kind, context, size and comm; and, if
    that was asked for, in process and cgroup.
    """

    rows: Rows
    counts: npt.NDArray[np.intp]
    bytes: F64
    oldest_ns: U64

    def only(self, which: npt.NDArray[np.bool_]) -> Tally:
        """Some of its rows."""
        return Tally(self.rows[which], self.counts[which], self.bytes[which], self.oldest_ns[which])


class TallyCounts:
    """Counts allocations by number, 0, 1, 2, …, as they are added."""

    def __init__(self) -> None:
        self._rows = np.zeros(0, np.intp)  # one for each number
        self._counts = np.zeros(0, np.intp)
        self._bytes = np.zeros(0, np.float64)
        self._oldest_ns = np.zeros(0, np.uint64)

    def add(self, numbers: Index, rows: Index, sizes: U64, times_ns: U64) -> None:
        """Count some; `rows` are what `tally` will ask for, sizes are bytes."""
        known, count = self._counts.size, max(int(numbers.max(initial=-1)) + 1, self._counts.size)
        self._rows = grown(self._rows, count, 1)
        self._counts = grown(self._counts, count, 1)
        self._bytes = grown(self._bytes, count, 1)
        self._oldest_ns = grown(self._oldest_ns, count, 1)
        self._oldest_ns[known:] = np.iinfo(np.uint64).max
        self._rows[numbers] = rows
        self._counts += np.bincount(numbers, minlength=count)
        self._bytes += np.bincount(numbers, sizes.astype(np.float64), count)  # exact up to 2**53
        np.minimum.at(self._oldest_ns, numbers, times_ns)

    def tally(self, rows: Callable[[Index], Rows]) -> Tally:
        """What was counted; `rows` gives the OUTSTANDING rows for one of the added rows of each number."""
        return Tally(rows(self._rows), self._counts, self._bytes, self._oldest_ns)


def tally(rows: Rows, by_process: bool = False) -> Tally:
    """Count OUTSTANDING rows. `Ledger.tally` counts all there are without taking them out."""
    counts = TallyCounts()
    whose = (*comm_words(rows), *((rows["cgroup"], rows["tgid"].astype(np.uint64)) if by_process else ()))
    counts.add(alike(rows, *whose), np.arange(rows.size), rows["bytes_alloc"], rows["time_ns"])
    return counts.tally(lambda places: rows[places])


def alike(rows: Rows, *words: U64) -> Index:
    """Number rows 0, 1, 2, …: the same for what agrees in stack, cache, size, kind and context, and in the `words`."""
    telling = (*alike_words(rows), *words)
    return Interner(words=len(telling)).intern(*telling)


def alike_words(rows: Rows) -> tuple[U64, U64, U64, U64]:
    """What `alike` goes by, of each row: stack, cache, size, and kind with context."""
    kind = rows["kind"].astype(np.uint64) << np.uint64(8) | rows["context"]
    return np.ascontiguousarray(rows["stack"]), rows["cache"], rows["bytes_alloc"], kind


def comm_words(rows: Rows) -> tuple[U64, U64]:
    """The 16 bytes of each comm, as two words."""
    comm = np.ascontiguousarray(rows["comm"]).view(np.uint64).reshape(-1, 2)
    return comm[:, 0], comm[:, 1]
