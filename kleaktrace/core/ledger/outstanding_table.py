# SPDX-License-Identifier: GPL-2.0-or-later
"""Outstanding allocations, 35 bytes each: what repeats is kept once and numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import AddressIndex, Interner, grown, number_pairs, one_of_each, stretch
from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.events.records import ALLOCATION, Kind, Rows

_FIELDS = (
    *("object", "time_ns", "call_site", "stack", "cgroup", "bytes_req", "bytes_alloc", "cache", "comm"),
    *("jiffies", "gfp_flags", "tid", "tgid", "cpu", "kind", "context"),
)
OUTSTANDING = np.dtype([(name, ALLOCATION[name]) for name in _FIELDS])
"""An allocation as the ledger gives it back: all of ALLOCATION that outlives the ring."""

# Columns and not records: most questions are about two or three, and numpy fetches numbers ten times as fast as rows.
_COLUMNS = {
    "time_ns": np.uint64,
    "stack": np.uint32,  # number of the stack
    "origin": np.uint32,  # number of (call_site, cache, gfp_flags, kind, context, bytes_req, bytes_alloc)
    "task": np.uint32,  # number of (comm, cgroup, tgid, tid)
    "jiffies": np.uint32,
    "cpu": np.uint16,
    "doubled": np.bool_,  # has replaced its first event, see event_matching.is_double_event
}
_WORTH_SWEEPING = 1 << 16
_ROW_COLUMNS = tuple(_COLUMNS)
_SPARSE = 4  # times as much room as is needed is more than what will soon be needed again

_PERCPU_BIT = np.uint64(1 << 62)


def object_keys(addresses: U64, percpu: npt.NDArray[np.bool_] | bool) -> U64:
    """Return keys that tell per-CPU offsets from ordinary addresses.

    Bits 63 and 62 of a kernel address are equal on every 64-bit machine with 62 bits of address or fewer, and
    so they are for per-CPU offsets (`__addr_to_pcpu_ptr`, mm/percpu.c: small, or in the kernel image's range).
    A key of a per-CPU offset has them unequal.
    """
    keys: U64 = addresses ^ (np.asarray(percpu).astype(np.uint64) * _PERCPU_BIT)
    return keys


def keys_of(events: Rows) -> U64:
    """Return the object keys of ALLOCATION or FREE rows."""
    addresses: U64 = np.ascontiguousarray(events["object"])
    percpu = events["kind"] == Kind.PERCPU
    return object_keys(addresses, percpu) if percpu.any() else addresses


def take_rows(events: Rows, which: Index) -> Rows:
    """Return `events[which]`; numpy copies plain bytes faster than structured rows."""
    picked: Rows = events.view(np.dtype((np.void, events.dtype.itemsize))).take(which).view(events.dtype)
    return picked


@dataclass(frozen=True, slots=True)
class RowChanges:
    """What became of the outstanding rows since the last look.

    anew: nothing that was told before holds any more, rows, origins and tasks are all told again. gone: rows that hold
    nothing any more. rows: those that hold something else now; `objects` (hidden addresses) and `columns` run parallel.
    origins, tasks: the words of those numbered since, in order.
    """

    anew: bool
    gone: Index
    rows: Index
    objects: U64
    columns: Mapping[str, npt.NDArray[Any]]
    origins: tuple[U64, ...]
    tasks: tuple[U64, ...]


class OutstandingRows:
    """The columns of the outstanding allocations, by object key.

    Memory: 35 bytes a row, up to an eighth of it spare, and 8 to 12 bytes of hash slots: 43 to 52 bytes an
    object, plus what is kept once per origin (60 to 90 bytes) and per task (50 to 80 bytes). Those that no outstanding
    allocation names are swept out. Room for up to four times as many is kept.
    """

    def __init__(self) -> None:
        self.index = AddressIndex()
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.zeros(self.index.capacity, dtype) for name, dtype in _COLUMNS.items()
        }
        self._origins = Interner(words=5)
        self._tasks = Interner(words=4)
        self._changes: _ChangedRows | None = None

    @classmethod
    def restored(
        cls,
        objects: U64,
        columns: Mapping[str, npt.NDArray[Any]],
        origins: Sequence[U64],
        tasks: Sequence[U64],
    ) -> OutstandingRows:
        """As `take_changes` told: its rows by ascending number, and all origins and tasks.

        Raises ValueError where they do not agree with each other.
        """
        made = cls()
        made._origins, made._tasks = Interner.restored(origins), Interner.restored(tasks)
        for name, numbered in (("origin", made._origins), ("task", made._tasks)):
            if columns[name].size and int(columns[name].max()) >= len(numbered):
                raise ValueError(f"an outstanding allocation has an {name} that is not told")
        kinds = (made._origins.word(2).take(columns["origin"]) >> np.uint64(8)).astype(np.uint8)
        keys = object_keys(objects, kinds == Kind.PERCPU)
        if np.unique(keys).size != keys.size:
            raise ValueError("two outstanding allocations have the same address")
        rows = made.insert(keys)
        for name in _ROW_COLUMNS:
            made._columns[name][rows] = columns[name]
        return made

    def track_changes(self) -> None:
        """From now on, remember which rows change, for `take_changes`: a byte a row."""
        self._changes = _ChangedRows()

    def take_changes(self, anew: bool = False) -> RowChanges:
        """What changed since the last call; all there is if it is the first since `track_changes`, or `anew`."""
        if anew:
            self._tell_anew()
        changes = self._changes
        assert changes is not None, "nobody has asked for changes to be remembered"
        anew = changes.anew
        gone, rows = (np.zeros(0, np.intp), self.index.rows) if anew else changes.gone_and_held()
        columns = {name: column.take(rows) for name, column in self._columns.items()}
        kinds = (self._origins.word(2).take(columns["origin"]) >> np.uint64(8)).astype(np.uint8)
        told = RowChanges(
            anew=anew,
            gone=gone,
            rows=rows,
            objects=object_keys(self.index.keys(rows), kinds == Kind.PERCPU),
            columns=columns,
            origins=_words_since(self._origins, 0 if anew else changes.origins),
            tasks=_words_since(self._tasks, 0 if anew else changes.tasks),
        )
        self._changes = _ChangedRows(False, len(self._origins), len(self._tasks))
        return told

    def __len__(self) -> int:
        return len(self.index)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        columns = sum(column.nbytes for column in self._columns.values())
        return self.index.nbytes + columns + self._origins.nbytes + self._tasks.nbytes

    def stacks(self, rows: Index) -> Index:
        """Return the stack numbers of the rows."""
        return self._columns["stack"].take(rows).astype(np.intp)

    def births(self, rows: Index) -> tuple[U64, U64]:
        """Return (time_ns, bytes_alloc) of the rows."""
        return self._columns["time_ns"].take(rows), self._origins.word(4).take(self._columns["origin"].take(rows))

    def doubled(self, rows: Index) -> npt.NDArray[np.bool_]:
        """Tell which of the rows were written as second events."""
        doubled: npt.NDArray[np.bool_] = self._columns["doubled"].take(rows)
        return doubled

    def remove(self, rows: Index, slots: Index) -> None:
        """Take out the rows, at the slots where `AddressIndex.find` found them."""
        self.index.remove(rows, slots)
        if self._changes is not None:
            self._changes.note(rows, held=False)

    def insert(self, keys: U64) -> Index:
        """Make room for new objects and return their rows, to be written."""
        rows = self.index.insert(keys)
        for column in self._columns.values():
            stretch(column, self.index.capacity)
        return rows

    def write(self, rows: Index, allocations: Rows, stacks: Index, doubled: npt.NDArray[np.bool_]) -> None:
        """Store allocations, their stacks numbered, at the rows."""
        columns = self._columns
        if self._changes is not None:
            self._changes.note(rows, held=True)
        for name in ("time_ns", "jiffies", "cpu"):
            columns[name][rows] = allocations[name]
        columns["stack"][rows] = stacks
        columns["doubled"][rows] = doubled
        columns["origin"][rows] = self._origins.intern(*_origin_words(allocations))
        columns["task"][rows] = self._tasks.intern(*_task_words(allocations))
        most = max(2 * len(self), _WORTH_SWEEPING)
        if len(self._origins) > most:
            self._origins = self._swept("origin", self._origins)
        if len(self._tasks) > most:
            self._tasks = self._swept("task", self._tasks)

    def compact(self) -> None:
        """Give back the room of what is gone, if that is most of it. All rows are renumbered then."""
        if self.index.capacity <= max(_SPARSE * len(self), _WORTH_SWEEPING):
            return
        rows = self.index.compact()
        for name, column in self._columns.items():
            self._columns[name] = np.zeros(self.index.capacity, column.dtype)
            self._columns[name][: rows.size] = column.take(rows)
        self._tell_anew()

    def decode(self, rows: Index, stack_keys: U64) -> npt.NDArray[Any]:
        """Return OUTSTANDING rows; `stack_keys` are the keys of all stacks, by number."""
        decoded = np.zeros(rows.size, OUTSTANDING)
        self.describe(rows, stack_keys, decoded)
        decoded["cpu"] = self._columns["cpu"].take(rows)
        origin, task = self._columns["origin"].take(rows), self._columns["task"].take(rows)
        decoded["call_site"] = self._origins.word(0).take(origin)
        decoded["cache"] = self._origins.word(1).take(origin)
        flags = self._origins.word(2).take(origin)
        decoded["gfp_flags"] = flags >> np.uint64(32)
        decoded["context"] = flags & np.uint64(0xFF)
        decoded["comm"] = _comm_of(self._tasks.word(0).take(task), self._tasks.word(1).take(task))
        decoded["cgroup"] = self._tasks.word(2).take(task)
        ids = self._tasks.word(3).take(task)
        decoded["tgid"] = ids >> np.uint64(32)
        decoded["tid"] = ids & np.uint64(0xFFFFFFFF)
        return decoded

    def tasks(self, rows: Index) -> Index:
        """Return the task numbers of the rows."""
        return self._columns["task"].take(rows).astype(np.intp)

    def comms(self) -> Index:
        """Number the comms of all tasks, by task number."""
        return Interner(words=2).intern(self._tasks.word(0), self._tasks.word(1))

    def processes(self) -> Index:
        """Number the processes of all tasks with their comms and cgroups, by task number."""
        tgids = self._tasks.word(3) >> np.uint64(32)
        return Interner(words=4).intern(*(self._tasks.word(word) for word in range(3)), tgids)

    def places(self, rows: Index) -> U64:
        """Return a word for each of the rows that is the same for the same stack and origin, size included."""
        places: U64 = self._columns["stack"].take(rows).astype(np.uint64)
        places <<= np.uint64(32)
        places |= self._columns["origin"].take(rows)
        return places

    def describe(self, rows: Index, stack_keys: U64, into: Rows) -> None:
        """Fill in the fields of `into` that tell which allocation it was: OUTSTANDING and CLOSED have them."""
        columns = self._columns
        origin = columns["origin"].take(rows)
        kinds = (self._origins.word(2).take(origin) >> np.uint64(8)).astype(np.uint8)
        into["object"] = object_keys(self.index.keys(rows), kinds == Kind.PERCPU)
        into["kind"] = kinds
        into["time_ns"] = columns["time_ns"].take(rows)
        into["jiffies"] = columns["jiffies"].take(rows)
        into["stack"] = stack_keys.take(columns["stack"].take(rows))
        into["bytes_req"] = self._origins.word(3).take(origin)
        into["bytes_alloc"] = self._origins.word(4).take(origin)

    def _swept(self, column: str, old: Interner) -> Interner:
        """Renumber what a column numbers, without what no outstanding allocation names."""
        rows = self.index.rows
        named, numbers = np.unique(self._columns[column][rows], return_inverse=True)
        kept = Interner(old.words)
        renumbered = kept.intern(*(old.word(word)[named] for word in range(old.words)))
        self._columns[column][rows] = renumbered[numbers]
        self._tell_anew()
        return kept

    def _tell_anew(self) -> None:
        if self._changes is not None:
            self._changes = _ChangedRows()


_GONE, _HELD = 1, 2


class _ChangedRows:
    """Which rows changed, and how many origins and tasks are told already. `anew`: nothing is."""

    def __init__(self, anew: bool = True, origins: int = 0, tasks: int = 0) -> None:
        self.anew, self.origins, self.tasks = anew, origins, tasks
        self._changed = np.zeros(0, np.uint8)

    def note(self, rows: Index, held: bool) -> None:
        if rows.size and not self.anew:
            self._changed = grown(self._changed, int(rows.max()) + 1, 2)
            self._changed[rows] = _HELD if held else _GONE

    def gone_and_held(self) -> tuple[Index, Index]:
        return np.flatnonzero(self._changed == _GONE), np.flatnonzero(self._changed == _HELD)


def _words_since(numbered: Interner, first: int) -> tuple[U64, ...]:
    return tuple(numbered.word(word)[first:].copy() for word in range(numbered.words))


class Likeness:
    """Numbers rows 0, 1, 2, …: the same for the same stack, origin, size and comm. They must not change meanwhile.

    by_process: for the same process and cgroup, too.
    """

    def __init__(self, rows: OutstandingRows, by_process: bool = False) -> None:
        self._rows = rows
        self._whose = rows.processes() if by_process else rows.comms()
        self._width = int(self._whose.max(initial=0)) + 1
        self._places = Interner()
        self._pairs = Interner()

    def numbers(self, rows: Index) -> Index:
        """The numbers of some rows."""
        places = self._places.intern(self._rows.places(rows))
        whose = self._whose.take(self._rows.tasks(rows))
        among_these = number_pairs(places, whose)
        each = one_of_each(among_these)
        pairs = places.take(each) * self._width + whose.take(each)
        return self._pairs.intern(pairs.view(np.uint64)).take(among_these)


def _origin_words(allocations: Rows) -> tuple[U64, U64, U64, U64, U64]:
    flags = allocations["gfp_flags"].astype(np.uint64) << np.uint64(32)
    flags |= allocations["kind"].astype(np.uint64) << np.uint64(8)
    flags |= allocations["context"].astype(np.uint64)
    return allocations["call_site"], allocations["cache"], flags, allocations["bytes_req"], allocations["bytes_alloc"]


def _task_words(allocations: Rows) -> tuple[U64, U64, U64, U64]:
    comm = np.ascontiguousarray(allocations["comm"]).view(np.uint64).reshape(-1, 2)
    ids = allocations["tgid"].astype(np.uint64) << np.uint64(32)
    ids |= allocations["tid"].astype(np.uint64)
    return comm[:, 0], comm[:, 1], allocations["cgroup"], ids


def _comm_of(first: U64, second: U64) -> npt.NDArray[np.bytes_]:
    return np.stack([first, second], axis=1).view("S16")[:, 0]
