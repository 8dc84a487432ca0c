# SPDX-License-Identifier: GPL-2.0-or-later
"""Vectorised hash tables: from addresses to rows, and from rare values to small dense numbers.

Open addressing with linear probing, done for whole arrays at once: every round moves all keys that are still
unresolved one slot on. A slot holds only a row number (4 bytes); the keys lie densely by row. Slots are
laid out in the order of the hash, so keys that come sorted by `spread` walk memory in one direction.

Time per key is a few nanoseconds while the tables fit the cache. `array.take(places)` is what `array[places]` is, two
to four times as fast (numpy 2). The hash is fixed and invertible: input made
to collide costs time, never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U64, Index, Mask

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Same = Callable[[Index, "Index | slice"], Mask]
"""Does row `rows[i]` hold the key number `which[i]` of those looked for?"""

_EMPTY = -1
_TOMBSTONE = -2  # something was here: probing goes on, inserting may use it
_MAX_LOAD = 0.5  # of slots in use, tombstones included; an absent key then takes two or three probes
_INTERNER_MAX_LOAD = 0.2  # of few values, asked for with every event: nearly all found at the first probe
_GROWTH = 1.5
_STRAGGLERS = 96  # so few keys are better probed by many slots a round than by one
_REACH = 24  # of slots seen at once by a straggler
_INTERNER_REACH = 6
_AT_ONCE = 1 << 16  # values interned at once: most of those that follow are known then, and the work fits the cache
_MIN_SLOTS = 64
_MIN_ROWS = 16
_INTERNER_MIN_SLOTS = 1 << 14  # hundreds of values, as most have, are then nearly all where they are looked for first
_ROW_GROWTH = 1.125  # rows are the bulk of the memory: little slack
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd (Knuth, TAOCP 3, 6.4: Fibonacci hashing)
_ODD = np.uint64(0xD6E8FEB86659FD93)  # any odd number without a pattern: it joins the words of a value
_EVERY = slice(None)
_FEW_PLACES = 1 << 16  # of flags: a table of so many is always worth it


def spread(keys: U64) -> U64:
    """Mix u64 keys so that their high bits differ; a bijection, so different keys stay different."""
    mixed = keys >> np.uint64(29)
    mixed ^= keys
    mixed *= _GOLDEN
    return mixed


def grown(array: npt.NDArray[_Scalar], needed: int, factor: float) -> npt.NDArray[_Scalar]:
    """Return `array` if it has `needed` entries along its first axis, else a longer copy, the rest zero."""
    if needed <= array.shape[0]:
        return array
    larger = np.zeros((max(needed, int(array.shape[0] * factor)), *array.shape[1:]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


def parts(array: npt.NDArray[_Scalar], at_most: int) -> Iterator[npt.NDArray[_Scalar]]:
    """The array in parts of so many entries."""
    return (array[start : start + at_most] for start in range(0, array.size, at_most))


def stretch(array: npt.NDArray[_Scalar], needed: int) -> None:
    """Give `array` room for at least `needed` entries where it is: with zeros, and little to spare.

    The kernel moves pages instead of copying bytes (mremap). No view of the array may be alive.
    """
    if needed > array.size:
        array.resize(max(needed, int(array.size * _ROW_GROWTH)), refcheck=False)


class _Slots:
    """Where each row is found: hash → row number. Knows nothing of the keys but their hashes."""

    def __init__(self, max_load: float, reach: int, size: int) -> None:
        self._max_load = max_load
        self._window = np.arange(reach)
        self._slots = np.full(size, _EMPTY, np.int32)
        self._used = 0  # live and tombstones

    @property
    def nbytes(self) -> int:
        return self._slots.nbytes

    def _home(self, hashes: U64) -> Index:
        """Map hashes to slots, keeping their order (Lemire, "Fast random integer generation", 2019)."""
        home = hashes >> np.uint64(32)
        home *= np.uint64(self._slots.size)
        home >>= np.uint64(32)
        return home.view(np.intp)

    def _next(self, at: Index) -> Index:
        after = at + 1
        after[after >= self._slots.size] = 0
        return after

    def _windows(self, at: Index) -> Index:
        """Return the slots each probe visits from `at` on, one row a probe."""
        slots = at[:, None] + self._window
        slots[slots >= self._slots.size] -= self._slots.size
        return slots

    def find(self, hashes: U64, same: _Same) -> tuple[Index, Index]:
        """Return (rows, slots) per hash; row -1 where the key is absent, its slot then means nothing."""
        at = self._home(hashes)
        rows = self._slots.take(at).astype(np.intp)
        found = same(rows, _EVERY)
        found &= rows >= 0
        unresolved = (~found).nonzero()[0]
        if unresolved.size:
            probed_on = rows.take(unresolved) != _EMPTY
            rows[unresolved] = -1
            unresolved = unresolved[probed_on]
            self._find_further(rows, at, unresolved, self._next(at.take(unresolved)), same)
        return rows, at

    def _find_further(self, rows: Index, at: Index, unresolved: Index, probe: Index, same: _Same) -> None:
        """Go on with a `find` for keys whose first slot held something else."""
        while unresolved.size > _STRAGGLERS:
            seen = self._slots.take(probe).astype(np.intp)
            hit = same(seen, unresolved)
            hit &= seen >= 0
            which = hit.nonzero()[0]
            rows[unresolved[which]] = seen[which]
            at[unresolved[which]] = probe[which]
            on = (~(hit | (seen == _EMPTY))).nonzero()[0]
            unresolved, probe = unresolved[on], self._next(probe[on])
        self._find_stragglers(rows, at, unresolved, probe, same)

    def _find_stragglers(self, rows: Index, at: Index, unresolved: Index, probe: Index, same: _Same) -> None:
        """Finish a `find` for the last few keys, many slots at a time."""
        while unresolved.size:
            slots = self._windows(probe)
            seen = self._slots.take(slots).astype(np.intp)
            hit = same(seen.ravel(), np.repeat(unresolved, self._window.size)).reshape(seen.shape) & (seen >= 0)
            which, column = np.nonzero(hit)
            rows[unresolved[which]] = seen[which, column]
            at[unresolved[which]] = slots[which, column]
            on = ~(seen == _EMPTY).any(axis=1)
            on[which] = False
            unresolved, probe = unresolved[on], self._next(slots[on, -1])

    def has_room(self, more: int) -> bool:
        return self._used + more <= self._slots.size * self._max_load

    def place(self, hashes: U64, rows: Index) -> None:
        """Enter rows that are not in the table. There must be room."""
        at, pending = self._home(hashes), rows.astype(np.int32)
        while pending.size > _STRAGGLERS:
            lost = (~self._claim(at, pending)).nonzero()[0]
            pending, at = pending[lost], self._next(at[lost])
        while pending.size:
            slots = self._windows(at)
            vacant = self._slots[slots] < 0
            each = np.arange(pending.size)
            # The first vacant slot; if there is none the last, which cannot be claimed.
            target = slots[each, np.where(vacant.any(axis=1), vacant.argmax(axis=1), -1)]
            lost = (~self._claim(target, pending)).nonzero()[0]
            pending, at = pending[lost], self._next(target[lost])

    def _claim(self, at: Index, rows: npt.NDArray[np.int32]) -> Mask:
        """Try to put each row into its slot; tell which are there now."""
        before = self._slots.take(at)
        vacant = before < 0
        self._slots[at[vacant]] = rows[vacant]
        # Several rows may have written to one slot: whoever can read itself back has it.
        won: Mask = vacant & (self._slots.take(at) == rows)
        self._used += int(np.count_nonzero(won & (before == _EMPTY)))
        return won

    def vacate(self, at: Index) -> None:
        """Take out what the given slots hold."""
        slots = self._slots
        slots[at] = _TOMBSTONE
        # A tombstone before an empty slot keeps no probe going: make it empty, then look one further back.
        while at.size:
            at = at[slots.take(self._next(at)) == _EMPTY]
            at = at[slots.take(at) == _TOMBSTONE]
            slots[at] = _EMPTY
            self._used -= int(at.size)
            at = at - 1
            at[at < 0] = slots.size - 1
            at = at[slots.take(at) == _TOMBSTONE]

    def rebuild(self, hashes: U64, rows: Index, more: int) -> None:
        """Start anew with the given rows only, and room for `more`."""
        size, needed = self._slots.size, (rows.size + more) / self._max_load
        if needed * _GROWTH > size:
            size = int(max(needed * (1 + _GROWTH) / 2, size * _GROWTH)) + self._window.size
        self._slots = np.full(size, _EMPTY, np.int32)
        self._used = 0
        self.place(hashes, rows)

    def live(self) -> Index:
        """Row numbers in slot order."""
        return self._slots[self._slots >= 0].astype(np.intp)


class AddressIndex:
    """A set of u64 keys that gives each a row number, small and reused after removal.

    Rows number the entries of the caller's own columns: `capacity` says how long those must be.
    Memory: 8 bytes a row and 8 to 12 bytes of slots per key; it follows the largest number of keys held since the
    last `compact`.
    """

    def __init__(self) -> None:
        self._slots = _Slots(_MAX_LOAD, _REACH, _MIN_SLOTS)
        self._keys = np.zeros(_MIN_ROWS, np.uint64)
        self._top = 0  # rows handed out at least once
        self._free = np.zeros(0, np.int32)  # a stack of rows to reuse, the newest last
        self._free_count = 0

    def __len__(self) -> int:
        return self._top - self._free_count

    @property
    def capacity(self) -> int:
        """Every row number is below this."""
        return int(self._keys.size)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._slots.nbytes + self._keys.nbytes + self._free.nbytes

    @property
    def rows(self) -> Index:
        """Rows of all keys held, in ascending order."""
        held = np.zeros(self._top, np.bool_)
        held[self._slots.live()] = True
        return np.flatnonzero(held)

    def keys(self, rows: Index) -> U64:
        """Return the keys that the rows stand for."""
        keys: U64 = self._keys.take(rows)
        return keys

    def find(self, keys: U64) -> tuple[Index, Index]:
        """Return (rows, slots); row -1 where absent. The slots serve `remove`, until the next `insert`."""

        def same(rows: Index, which: Index | slice) -> Mask:
            equal: Mask = self._keys.take(rows) == keys[which]
            return equal

        return self._slots.find(spread(keys), same)

    def lookup(self, keys: U64) -> Index:
        """Return the rows of the keys, -1 where absent."""
        return self.find(keys)[0]

    def insert(self, keys: U64) -> Index:
        """Enter keys, each once and none held already, and return their rows."""
        if not self._slots.has_room(keys.size):
            held = self._slots.live()
            self._slots.rebuild(spread(self._keys[held]), held, keys.size)
        rows = self._take_rows(keys.size)
        self._keys[rows] = keys
        self._slots.place(spread(keys), rows)
        return rows

    def remove(self, rows: Index, slots: Index) -> None:
        """Take out the keys at these rows and slots, as `find` gave them."""
        self._slots.vacate(slots)
        end = self._free_count + rows.size
        self._free = grown(self._free, end, _GROWTH)
        self._free[self._free_count : end] = rows
        self._free_count = end

    def compact(self) -> Index:
        """Give back the room of keys that are gone. The others get new rows: 0, 1, 2, …; return their old ones."""
        held = self._slots.live()
        keys = self._keys.take(held)
        self._keys = grown(keys, _MIN_ROWS, 1)
        self._slots = _Slots(_MAX_LOAD, _REACH, _MIN_SLOTS)
        self._slots.rebuild(spread(keys), np.arange(held.size), 0)
        self._top, self._free, self._free_count = held.size, np.zeros(0, np.int32), 0
        return held

    def _take_rows(self, count: int) -> Index:
        reused = min(count, self._free_count)
        old = self._free[self._free_count - reused : self._free_count].astype(np.intp)
        self._free_count -= reused
        new = np.arange(self._top, self._top + count - reused)
        self._top += count - reused
        stretch(self._keys, self._top)
        return np.concatenate([old, new])


class Interner:
    """Numbers distinct values 0, 1, 2, … as they first appear; a value is `words` u64 words.

    Memory: per distinct value 8 bytes a word, up to half as much again for growth, and 20 to 30 bytes of slots.
    """

    def __init__(self, words: int = 1) -> None:
        self._slots = _Slots(_INTERNER_MAX_LOAD, _INTERNER_REACH, _INTERNER_MIN_SLOTS)
        self._columns = [np.zeros(16, np.uint64) for _ in range(words)]
        self._count = 0

    @classmethod
    def restored(cls, columns: Sequence[U64]) -> Interner:
        """One that numbers these values, one column a word, in this order. Raises ValueError if one comes twice."""
        made = cls(len(columns))
        made.intern(*columns)
        if len(made) != columns[0].size:
            raise ValueError("a value that is to be numbered comes twice")
        return made

    def __len__(self) -> int:
        return self._count

    @property
    def words(self) -> int:
        """How many words a value has."""
        return len(self._columns)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._slots.nbytes + sum(column.nbytes for column in self._columns)

    @property
    def keys(self) -> U64:
        """First word of every value, by number. Not to be written to."""
        return self.word(0)

    def word(self, number: int) -> U64:
        """Word `number` of every value, by number. Not to be written to."""
        return self._columns[number][: self._count]

    def lookup(self, *columns: U64) -> Index:
        """Return the numbers of the values, one column a word; -1 where a value was never seen."""
        return self._find(self._hash(columns), columns)

    def intern(self, *columns: U64) -> Index:
        """Return the numbers of the values, one column a word, numbering those not seen before."""
        size = columns[0].size
        if size <= _AT_ONCE:
            return self._intern(*columns)
        cut = zip(*(parts(column, _AT_ONCE) for column in columns), strict=True)
        return np.concatenate([self._intern(*some) for some in cut])

    def _intern(self, *columns: U64) -> Index:
        hashes = self._hash(columns)
        numbers = self._find(hashes, columns)
        missing = (numbers < 0).nonzero()[0]
        while missing.size:
            # Values that differ may share a hash: all but the first of them wait for the next round.
            first = missing[np.sort(np.unique(hashes[missing], return_index=True)[1])]
            self._append(hashes[first], [column[first] for column in columns])
            numbers[missing] = self._find(hashes[missing], [column[missing] for column in columns])
            missing = missing[numbers[missing] < 0]
        return numbers

    def _append(self, hashes: U64, columns: list[U64]) -> None:
        start, end = self._count, self._count + hashes.size
        if not self._slots.has_room(hashes.size):
            # Backwards, because the last one to claim a slot has it: what came first, most often comes most often.
            every = [self.word(number)[::-1] for number in range(len(self._columns))]
            self._slots.rebuild(self._hash(every), np.arange(start)[::-1], hashes.size)
        for number, column in enumerate(columns):
            self._columns[number] = grown(self._columns[number], end, _GROWTH)
            self._columns[number][start:end] = column
        self._count = end
        self._slots.place(hashes, np.arange(start, end))

    def _find(self, hashes: U64, columns: tuple[U64, ...] | list[U64]) -> Index:
        def same(rows: Index, which: Index | slice) -> Mask:
            equal: Mask = self._columns[0].take(rows) == columns[0][which]
            for held, sought in zip(self._columns[1:], columns[1:], strict=True):
                equal &= held.take(rows) == sought[which]
            return equal

        return self._slots.find(hashes, same)[0]

    @staticmethod
    def _hash(columns: tuple[U64, ...] | list[U64]) -> U64:
        mixed = columns[0]
        for column in columns[1:]:
            mixed = mixed * _ODD + column
        return spread(mixed)


def number_pairs(first: Index, second: Index) -> Index:
    """Number the pairs of two numberings, 0, 1, 2, … each: again 0, 1, 2, …, in no particular order."""
    width = int(second.max(initial=0)) + 1
    pairs = first * width + second
    places = (int(first.max(initial=0)) + 1) * width
    if places > max(4 * pairs.size, _FEW_PLACES):
        return Interner().intern(pairs.view(np.uint64))
    there = np.zeros(places, np.bool_)
    there[pairs] = True
    numbers: Index = np.cumsum(there).take(pairs) - 1
    return numbers


def one_of_each(numbers: Index) -> Index:
    """A place at which each number stands, of a numbering 0, 1, 2, …: the first."""
    places = np.empty(int(numbers.max(initial=-1)) + 1, np.intp)
    places[numbers[::-1]] = np.arange(numbers.size)[::-1]
    return places
