# SPDX-License-Identifier: GPL-2.0-or-later
"""What each call stack allocated, what came back, how soon, and where it was freed.

Memory: 100 to 200 bytes a distinct stack, and 45 to 65 bytes for each distinct (stack, free site, quarter
octave of lifetime) that was seen; nothing grows with the number of events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import Interner, grown
from kleaktrace.core.arrays.types import F64, U64, Index
from kleaktrace.core.events.records import Context

_CONTEXTS = (Context.TASK, Context.SOFTIRQ, Context.HARDIRQ, Context.NMI, Context.UNKNOWN)
_UNKNOWN_COLUMN = len(_CONTEXTS) - 1
_GROWTH = 1.5

# A cell counts frees of one (stack number and lifetime bin, packed into one u64; free site).
_BIN_BITS = np.uint64(8)
_BIN_MASK = np.uint64(255)


def lifetime_bins(lifetimes_ns: U64) -> U64:
    """Return the bin of each lifetime: four to an octave, bin 0 holds 0 and 1 ns, bin 255 is the last.

    The bins are the exponent and the two highest fraction bits of the lifetime as a double.
    """
    bits = np.maximum(lifetimes_ns, np.uint64(1)).astype(np.float64).view(np.uint64)
    bits >>= np.uint64(50)
    bits -= np.uint64(1023 << 2)
    return np.minimum(bits, np.uint64(255), out=bits)


LIFETIME_BINS = 256
"""How many bins there are."""


def bin_range(number: int) -> tuple[float, float]:
    """Return the lifetimes (ns) a bin covers, from (included) and to (excluded)."""
    octave, quarter = divmod(number, 4)
    return 2.0**octave * (1 + quarter / 4), 2.0**octave * (1 + (quarter + 1) / 4)


@dataclass(frozen=True, slots=True)
class StackStatistics:
    """All that was seen of one stack. Bytes are as allocated (`bytes_alloc`), times in ns."""

    stack: int
    allocations: int
    bytes_allocated: int
    frees: int
    """Frees that were seen; allocations closed by one."""
    implied_frees: int
    """Allocations whose address came back without a free having been seen."""
    outstanding: int
    outstanding_bytes: int
    contexts: Mapping[Context, int]
    """Allocations by context; contexts that never occurred are left out."""
    free_sites: tuple[tuple[int, int], ...]
    """(free call site, frees), the most frequent first."""
    lifetimes: tuple[tuple[int, int], ...]
    """(bin as in `bin_range`, frees), ascending; implied frees have no lifetime."""
    lifetime_sum_ns: float
    lifetime_max_ns: int

    def lifetime_quantile(self, q: float) -> float | None:
        """Return the lifetime (ns) that a share `q` of the freed did not exceed, within 12 %.

        None if nothing was freed. Says nothing of what is outstanding: those lifetimes are still running.
        """
        seen = 0
        for number, count in self.lifetimes:
            seen += count
            if seen >= q * self.frees:
                low, high = bin_range(number)
                return min(float(np.sqrt(low * high)), float(self.lifetime_max_ns))
        return None


@dataclass(frozen=True, slots=True)
class StackSnapshot:
    """Counters of all stacks at one moment, column by column; of use for rates.

    Stacks keep their place: a later snapshot begins with the stacks of an earlier one.
    """

    stacks: U64
    allocations: U64
    frees: U64
    implied_frees: U64
    bytes_allocated: U64
    bytes_closed: U64
    """Bytes of what was freed, seen or implied."""

    def at(self, places: Index) -> StackSnapshot:
        """Some stacks of it."""
        return StackSnapshot(*(getattr(self, field.name)[places] for field in fields(self)))

    @property
    def outstanding(self) -> U64:
        """Allocations outstanding."""
        return self.allocations - self.frees - self.implied_frees

    @property
    def outstanding_bytes(self) -> U64:
        """Bytes outstanding."""
        return self.bytes_allocated - self.bytes_closed


@dataclass(frozen=True, slots=True)
class StackTableState:
    """All of a `StackTable`: of each stack, by number, and of each cell, by number.

    by_context: allocations by stack (rows) and context (columns, as `_CONTEXTS` has them). A cell counts the frees of a
    stack's allocations (`cell_stacks`, numbers) at a lifetime (`cell_bins`, as `bin_range`) by a site.
    """

    stacks: U64
    by_context: U64
    bytes_allocated: U64
    implied_frees: U64
    bytes_closed: U64
    lifetime_max: U64
    lifetime_sum: F64
    cell_stacks: U64
    cell_bins: U64
    cell_sites: U64
    cell_counts: U64


class StackTable:
    """Counters per stack. `index` numbers stacks; the other methods take those numbers, one per event."""

    def __init__(self) -> None:
        self._stacks = Interner()
        self._cells = Interner(words=2)
        self._cell_counts = np.zeros(16, np.uint64)
        self._by_context = np.zeros((16, len(_CONTEXTS)), np.uint64)
        self._bytes_allocated = np.zeros(16, np.uint64)
        self._implied_frees = np.zeros(16, np.uint64)
        self._bytes_closed = np.zeros(16, np.uint64)
        self._lifetime_max = np.zeros(16, np.uint64)
        # As floats: nanoseconds of millions of old objects overflow 64 bits.
        self._lifetime_sum = np.zeros(16, np.float64)

    @classmethod
    def restored(cls, state: StackTableState) -> StackTable:
        """The same as the one whose state it is. Raises ValueError where that does not agree with itself."""
        made = cls()
        made.index(state.stacks)
        if len(made) != state.stacks.size:
            raise ValueError("a call stack comes twice in the counters")
        if state.cell_stacks.size and int(state.cell_stacks.max()) >= len(made):
            raise ValueError("frees are counted for a call stack that is not told")
        count = len(made)
        made._by_context[:count] = state.by_context
        made._bytes_allocated[:count] = state.bytes_allocated
        made._implied_frees[:count] = state.implied_frees
        made._bytes_closed[:count] = state.bytes_closed
        made._lifetime_max[:count] = state.lifetime_max
        made._lifetime_sum[:count] = state.lifetime_sum
        packed = state.cell_stacks << _BIN_BITS | state.cell_bins & _BIN_MASK
        made._cells = Interner.restored([packed, state.cell_sites])
        made._cell_counts = grown(made._cell_counts, len(made._cells), 1)
        made._cell_counts[: len(made._cells)] = state.cell_counts
        return made

    def state(self) -> StackTableState:
        """A copy of it all."""
        count, cells = len(self._stacks), len(self._cells)
        packed = self._cells.keys
        return StackTableState(
            stacks=self._stacks.keys.copy(),
            by_context=self._by_context[:count].copy(),
            bytes_allocated=self._bytes_allocated[:count].copy(),
            implied_frees=self._implied_frees[:count].copy(),
            bytes_closed=self._bytes_closed[:count].copy(),
            lifetime_max=self._lifetime_max[:count].copy(),
            lifetime_sum=self._lifetime_sum[:count].copy(),
            cell_stacks=packed >> _BIN_BITS,
            cell_bins=packed & _BIN_MASK,
            cell_sites=self._cells.word(1).copy(),
            cell_counts=self._cell_counts[:cells].copy(),
        )

    def __len__(self) -> int:
        return len(self._stacks)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        columns = (self._cell_counts, self._by_context, *self._counters(), self._lifetime_sum)
        return self._stacks.nbytes + self._cells.nbytes + sum(column.nbytes for column in columns)

    @property
    def keys(self) -> U64:
        """Stack keys by number."""
        return self._stacks.keys

    def index(self, stacks: U64) -> Index:
        """Number the stacks, those not seen before too."""
        numbers = self._stacks.intern(stacks)
        count = len(self._stacks)
        if count > self._bytes_closed.size:
            self._by_context = grown(self._by_context, count, _GROWTH)
            self._bytes_allocated = grown(self._bytes_allocated, count, _GROWTH)
            self._implied_frees = grown(self._implied_frees, count, _GROWTH)
            self._bytes_closed = grown(self._bytes_closed, count, _GROWTH)
            self._lifetime_max = grown(self._lifetime_max, count, _GROWTH)
            self._lifetime_sum = grown(self._lifetime_sum, count, _GROWTH)
        return numbers

    def numbers(self, stacks: Iterable[int]) -> Index:
        """The numbers of stacks by key; -1 for one never seen."""
        return self._stacks.lookup(np.array(list(stacks), np.uint64))

    def allocated(self, stacks: Index, sizes: U64, contexts: npt.NDArray[np.uint8]) -> None:
        """Count allocations."""
        np.add.at(self._by_context.reshape(-1), self._context_cell(stacks, contexts), np.uint64(1))
        np.add.at(self._bytes_allocated, stacks, sizes)

    def retract(self, stacks: Index, sizes: U64, contexts: npt.NDArray[np.uint8]) -> None:
        """Take back allocations that were counted but were not ones."""
        np.subtract.at(self._by_context.reshape(-1), self._context_cell(stacks, contexts), np.uint64(1))
        np.subtract.at(self._bytes_allocated, stacks, sizes)

    def freed(self, stacks: Index, sizes: U64, lifetimes_ns: U64, sites: U64) -> None:
        """Count frees that were seen; `sites` are their call sites."""
        np.add.at(self._bytes_closed, stacks, sizes)
        np.add.at(self._lifetime_sum, stacks, lifetimes_ns.astype(np.float64))
        np.maximum.at(self._lifetime_max, stacks, lifetimes_ns)
        packed = stacks.view(np.uint64) << _BIN_BITS
        packed |= lifetime_bins(lifetimes_ns)
        cells = self._cells.intern(packed, sites)
        self._cell_counts = grown(self._cell_counts, len(self._cells), _GROWTH)
        np.add.at(self._cell_counts, cells, np.uint64(1))

    def implied_freed(self, stacks: Index, sizes: U64) -> None:
        """Count allocations that ended unseen."""
        np.add.at(self._implied_frees, stacks, np.uint64(1))
        np.add.at(self._bytes_closed, stacks, sizes)

    def snapshot(self) -> StackSnapshot:
        """Copy the counters."""
        count = len(self._stacks)
        return StackSnapshot(
            stacks=self._stacks.keys.copy(),
            allocations=self._by_context[:count].sum(axis=1, dtype=np.uint64),
            frees=np.bincount(self._stacks_of_cells(), self._cell_counts[: len(self._cells)], count).astype(np.uint64),
            implied_frees=self._implied_frees[:count].copy(),
            bytes_allocated=self._bytes_allocated[:count].copy(),
            bytes_closed=self._bytes_closed[:count].copy(),
        )

    def statistics(self, stacks: Iterable[int]) -> list[StackStatistics]:
        """Return the statistics of the stacks asked for, in that order; all zero for one never seen."""
        keys = np.array(list(stacks), np.uint64)
        numbers = self._stacks.lookup(keys)
        stack_of_cell = self._stacks_of_cells()
        cells = np.flatnonzero(np.isin(stack_of_cell, numbers))
        of_stack, counts = stack_of_cell[cells], self._cell_counts[cells]
        sites = _sums(of_stack, self._cells.word(1)[cells], counts)
        lifetimes = _sums(of_stack, self._cells.word(0)[cells] & _BIN_MASK, counts)
        return [
            self._one(key, number, sites.get(number, []), lifetimes.get(number, []))
            for key, number in zip(keys.tolist(), numbers.tolist(), strict=True)
        ]

    def lifetime_counts(self, stacks: U64) -> U64:
        """Return frees by stack (rows, as asked) and lifetime bin (LIFETIME_BINS columns); 0 for one never seen."""
        rows = self.places(stacks)[self._stacks_of_cells()]
        of_asked = np.flatnonzero(rows >= 0)
        bins = (self._cells.keys[of_asked] & _BIN_MASK).astype(np.intp)
        counts = np.zeros((stacks.size, LIFETIME_BINS), np.uint64)
        np.add.at(counts, (rows[of_asked], bins), self._cell_counts[of_asked])
        return counts

    def places(self, stacks: U64) -> Index:
        """Return, for every stack by number, its place in `stacks`; -1 if it is not among them."""
        place = np.full(len(self._stacks) + 1, -1, np.intp)  # those never seen go to the end, which is cut off
        place[self._stacks.lookup(stacks)] = np.arange(stacks.size)
        return place[:-1]

    def _one(
        self, key: int, number: int, sites: list[tuple[int, int]], lifetimes: list[tuple[int, int]]
    ) -> StackStatistics:
        if number < 0:
            return StackStatistics(key, 0, 0, 0, 0, 0, 0, {}, (), (), 0.0, 0)
        contexts = self._by_context[number].tolist()
        implied, size = int(self._implied_frees[number]), int(self._bytes_allocated[number])
        allocations, frees = sum(contexts), sum(count for _, count in lifetimes)
        return StackStatistics(
            stack=key,
            allocations=allocations,
            bytes_allocated=size,
            frees=frees,
            implied_frees=implied,
            outstanding=allocations - frees - implied,
            outstanding_bytes=size - int(self._bytes_closed[number]),
            contexts={context: n for context, n in zip(_CONTEXTS, contexts, strict=True) if n},
            free_sites=tuple(sorted(sites, key=lambda item: (-item[1], item[0]))),
            lifetimes=tuple(lifetimes),
            lifetime_sum_ns=float(self._lifetime_sum[number]),
            lifetime_max_ns=int(self._lifetime_max[number]),
        )

    def _counters(self) -> tuple[U64, ...]:
        return self._bytes_allocated, self._implied_frees, self._bytes_closed, self._lifetime_max

    def _stacks_of_cells(self) -> Index:
        """The number of each cell's stack."""
        return (self._cells.keys >> _BIN_BITS).view(np.intp)

    @staticmethod
    def _context_cell(stacks: Index, contexts: npt.NDArray[np.uint8]) -> Index:
        return stacks * len(_CONTEXTS) + np.minimum(contexts, np.uint8(_UNKNOWN_COLUMN))


def _sums(stacks: Index, labels: U64, counts: U64) -> dict[int, list[tuple[int, int]]]:
    """Return (label, sum of its counts) by stack number, labels ascending. The arrays run parallel."""
    order = np.lexsort((labels, stacks))
    stacks, labels, counts = stacks[order], labels[order], counts[order]
    first = np.ones(order.size, np.bool_)
    first[1:] = (stacks[1:] != stacks[:-1]) | (labels[1:] != labels[:-1])
    starts = np.flatnonzero(first)
    totals = np.add.reduceat(counts, starts) if starts.size else counts
    found: dict[int, list[tuple[int, int]]] = {}
    for stack, label, total in zip(stacks[starts].tolist(), labels[starts].tolist(), totals.tolist(), strict=True):
        found.setdefault(stack, []).append((label, total))
    return found
