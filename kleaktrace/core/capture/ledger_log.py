# SPDX-License-Identifier: GPL-2.0-or-later
"""A ledger in a capture: what changed of its counters, of what is outstanding, and what ended, flush by flush."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import grown
from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.capture import tables
from kleaktrace.core.capture.differences import later, summed
from kleaktrace.core.capture.tables import Columns, TableLayout
from kleaktrace.core.events.loss import LossWindow
from kleaktrace.core.ledger.ending_memory import HISTORY_CAPACITY
from kleaktrace.core.ledger.free_history import CLOSED, Closed
from kleaktrace.core.ledger.free_samples import SAMPLES_OF_A_KIND, TRAITS, SiblingSamples, Traits
from kleaktrace.core.ledger.ledger import Ledger, LedgerChanges, LedgerState
from kleaktrace.core.ledger.outstanding_table import OutstandingRows, RowChanges
from kleaktrace.core.ledger.stack_counters import StackTable, StackTableState

Batches = Iterator[tuple[TableLayout, Columns]]

_ROW_COLUMNS = ("time_ns", "stack", "origin", "task", "jiffies", "cpu", "doubled")
_ROW_DIFFERENCES = ("object", "time_ns", "jiffies")
_ENDING_TIMES = ("time_ns", "jiffies", "closed_ns")
_PLACES = 2 * SAMPLES_OF_A_KIND
"""Samples of a stack: those of this epoch, and those before."""

_GROWTH = 1.5


class LedgerLog:
    """Tells what changed of one ledger."""

    def __init__(self) -> None:
        self._stacks: StackTableState | None = None
        self._samples: npt.NDArray[np.void] = np.zeros((0, _PLACES), TRAITS)
        self._implied: Mapping[tuple[int, int, int], int] = {}

    def batches(self, changes: LedgerChanges) -> Batches:
        """The rows for what changed, which is all that changed since the last call."""
        yield from self._counters(changes.stacks)
        yield tables.ENDINGS, _ending_columns(changes.endings)
        yield from _row_batches(changes.rows)
        yield tables.WATCHED, {name: changes.watched[name] for name in tables.WATCHED.columns}
        if changes.samples is not None:
            yield tables.SAMPLES, self._sample_columns(*changes.samples)
        if changes.implied != self._implied:
            self._implied = changes.implied
            yield tables.IMPLIED, _implied_columns(changes.implied)

    @staticmethod
    def new_sites(changes: LedgerChanges) -> U64:
        """The keys of all places that the changes name."""
        return np.concatenate([changes.stacks.cell_sites, changes.endings["free_site"], changes.watched["free_site"]])

    def _counters(self, now: StackTableState) -> Batches:
        before, self._stacks = self._stacks, now
        stacks, cells = (before.stacks.size, before.cell_counts.size) if before else (0, 0)
        yield tables.LEDGER_STACKS, {"stack": now.stacks[stacks:]}
        counters = _counter_columns(now)
        longest, lived = now.lifetime_max.copy(), now.lifetime_sum.view(np.uint64).copy()
        if before is not None:
            counters[:stacks] -= _counter_columns(before)
            longest[:stacks] -= before.lifetime_max
            lived[:stacks] -= before.lifetime_sum.view(np.uint64)
        changed = np.flatnonzero(counters.any(axis=1) | (lived != 0))
        names = (*tables.COUNTER_COLUMNS, "bytes_allocated", "bytes_closed", "implied_frees")
        yield (
            tables.COUNTERS,
            {
                "stack": later(changed.astype(np.uint32)),
                **{name: counters[changed, place].view(np.int64) for place, name in enumerate(names)},
                "lifetime_max": longest[changed],
                "lifetime_sum": lived[changed],
            },
        )
        yield (
            tables.CELLS,
            {
                "stack": now.cell_stacks[cells:].astype(np.uint32),
                "bin": now.cell_bins[cells:].astype(np.uint8),
                "site": now.cell_sites[cells:],
            },
        )
        counts = now.cell_counts.copy()
        if before is not None:
            counts[:cells] -= before.cell_counts
        counted = np.flatnonzero(counts)
        yield tables.CELL_COUNTS, {"cell": later(counted.astype(np.uint32)), "frees": counts[counted].astype(np.uint32)}

    def _sample_columns(self, recent: Traits, earlier: Traits) -> Columns:
        now = np.concatenate([recent, earlier], axis=1)
        before, self._samples = grown(self._samples, len(now), 1), now
        words = TRAITS.itemsize // 8
        differs = now.view(np.uint64).reshape(-1, words) != before.view(np.uint64).reshape(-1, words)
        changed = np.flatnonzero(differs.any(axis=1))
        rows = now.reshape(-1)[changed]
        columns: dict[str, Any] = {
            "stack": (changed // _PLACES).astype(np.uint32),
            "place": (changed % _PLACES).astype(np.uint8),
        }
        return columns | {name: rows[name].tolist() if name == "comm" else rows[name] for name in TRAITS.names or ()}


def _counter_columns(state: StackTableState) -> U64:
    """Of each stack (rows) what is told by how much it changed."""
    others = np.stack([state.bytes_allocated, state.bytes_closed, state.implied_frees], axis=1)
    return np.concatenate([state.by_context, others], axis=1)


def _row_batches(changes: RowChanges) -> Batches:
    yield tables.GONE, {"row": later(changes.gone.astype(np.uint32))}
    alike = np.lexsort([changes.columns["time_ns"], changes.columns["stack"]])
    columns = {name: changes.columns[name].take(alike) for name in _ROW_COLUMNS}
    yield (
        tables.OUTSTANDING,
        {"row": changes.rows.take(alike).astype(np.uint32), "object": later(changes.objects.take(alike)), **columns}
        | {name: later(columns[name]) for name in ("time_ns", "jiffies")}
        | {"doubled": columns["doubled"].astype(np.uint8)},
    )
    yield tables.ORIGINS, dict(zip(tables.ORIGINS.columns, changes.origins, strict=True))
    yield tables.TASKS, dict(zip(tables.TASKS.columns, changes.tasks, strict=True))


def _ending_columns(endings: Closed) -> Columns:
    columns = {name: np.ascontiguousarray(endings[name]) for name in tables.ENDINGS.columns}
    return columns | {name: later(columns[name]) for name in _ENDING_TIMES}


def _implied_columns(implied: Mapping[tuple[int, int, int], int]) -> Columns:
    return {
        "kind": np.array([kind for kind, _, _ in implied], np.uint8),
        "cache": np.array([cache for _, cache, _ in implied], np.uint64),
        "bytes": np.array([size for _, _, size in implied], np.uint64),
        "frees": np.array(list(implied.values()), np.uint64),
    }


MOST_STACKS = 1 << 21
MOST_ROWS = 1 << 26
"""No session has more; a file that says so is no capture."""

_ROW = np.dtype(
    [
        *(("object", "<u8"), ("time_ns", "<u8"), ("stack", "<u4"), ("origin", "<u4"), ("task", "<u4")),
        *(("jiffies", "<u4"), ("cpu", "<u2"), ("doubled", "u1"), ("held", "u1")),
    ]
)


class LedgerReader:
    """Puts a ledger together again. Raises ValueError where a row is about what was not told."""

    def __init__(self) -> None:
        self._rows = _RowsReader()
        self._origins, self._tasks = _Words(5), _Words(4)
        self._stacks, self._cells = _Words(1), _Words(3)
        self._counters = np.zeros((0, len(tables.COUNTER_COLUMNS) + 3), np.uint64)
        self._lifetime_max: U64 = np.zeros(0, np.uint64)
        self._lifetime_bits: U64 = np.zeros(0, np.uint64)
        self._cell_counts: U64 = np.zeros(0, np.uint64)
        self._samples: Traits = np.zeros((0, _PLACES), TRAITS)
        self._endings: deque[Closed] = deque()
        self._kept = 0
        self._watched: list[Closed] = []
        self._implied: dict[tuple[int, int, int], int] = {}

    @property
    def stacks(self) -> U64:
        """The keys of the stacks told so far, by number."""
        return self._stacks.column(0)

    def forget_rows(self) -> None:
        """What is outstanding is told anew, origins and tasks as well."""
        self._rows, self._origins, self._tasks = _RowsReader(), _Words(5), _Words(4)

    def take(self, table: TableLayout, batch: Columns) -> None:
        """Take a batch of one of the tables of the ledger, in the order of `TABLES`."""
        match table:
            case tables.OUTSTANDING:
                self._rows.add(batch)
            case tables.GONE:
                self._rows.remove(summed(batch["row"]))
            case tables.ORIGINS:
                self._origins.add(list(batch.values()))
            case tables.TASKS:
                self._tasks.add(list(batch.values()))
            case tables.ENDINGS:
                self._take_endings(_closed({**batch, **{name: summed(batch[name]) for name in _ENDING_TIMES}}))
            case tables.WATCHED:
                self._watched.append(_closed(batch))
            case _:
                self._take_books(table, batch)

    def _take_books(self, table: TableLayout, batch: Columns) -> None:
        match table:
            case tables.LEDGER_STACKS:
                self._stacks.add([batch["stack"]])
                if len(self._stacks) > MOST_STACKS:
                    raise ValueError(f"it tells of more than {MOST_STACKS} call stacks")
            case tables.COUNTERS:
                self._take_counters(batch)
            case tables.CELLS:
                self._cells.add([batch[name].astype(np.uint64) for name in tables.CELLS.columns])
            case tables.CELL_COUNTS:
                cells = _numbers(summed(batch["cell"]), len(self._cells), "a lifetime")
                self._cell_counts = grown(self._cell_counts, len(self._cells), _GROWTH)
                self._cell_counts[cells] += batch["frees"]
            case tables.SAMPLES:
                self._take_samples(batch)
            case tables.IMPLIED:
                rows = zip(*(batch[name].tolist() for name in tables.IMPLIED.columns), strict=True)
                self._implied = {(kind, cache, size): frees for kind, cache, size, frees in rows}

    def ledger(self, losses: Sequence[LossWindow], unknown_frees: int, double_events: int, forgotten_ns: int) -> Ledger:
        """The ledger, with what is told of it elsewhere."""
        rows, count, cells = self._rows.rows(), len(self._stacks), len(self._cells)
        counters = grown(self._counters, count, 1)[:count]
        contexts = len(tables.COUNTER_COLUMNS)
        stacks = StackTableState(
            stacks=self.stacks,
            by_context=counters[:, :contexts],
            bytes_allocated=counters[:, contexts],
            bytes_closed=counters[:, contexts + 1],
            implied_frees=counters[:, contexts + 2],
            lifetime_max=grown(self._lifetime_max, count, 1)[:count],
            lifetime_sum=grown(self._lifetime_bits, count, 1)[:count].view(np.float64),
            cell_stacks=self._cells.column(0),
            cell_bins=self._cells.column(1),
            cell_sites=self._cells.column(2),
            cell_counts=grown(self._cell_counts, cells, 1)[:cells],
        )
        return Ledger.restored(
            LedgerState(
                rows=OutstandingRows.restored(
                    np.ascontiguousarray(rows["object"]),
                    {name: rows[name] for name in _ROW_COLUMNS},
                    self._origins.columns(),
                    self._tasks.columns(),
                ),
                stacks=StackTable.restored(stacks),
                samples=SiblingSamples.restored(
                    self._samples[:, :SAMPLES_OF_A_KIND], self._samples[:, SAMPLES_OF_A_KIND:]
                ),
                endings=np.concatenate([np.zeros(0, CLOSED), *self._endings]),
                forgotten_ns=forgotten_ns,
                watched=np.concatenate([np.zeros(0, CLOSED), *self._watched]),
                implied=self._implied,
                unknown_frees=unknown_frees,
                double_events=double_events,
                losses=losses,
            )
        )

    def _take_counters(self, batch: Columns) -> None:
        count = len(self._stacks)
        stacks = _numbers(summed(batch["stack"]), count, "a call stack")
        self._counters = grown(self._counters, count, _GROWTH)
        self._lifetime_max = grown(self._lifetime_max, count, _GROWTH)
        self._lifetime_bits = grown(self._lifetime_bits, count, _GROWTH)
        names = (*tables.COUNTER_COLUMNS, "bytes_allocated", "bytes_closed", "implied_frees")
        self._counters[stacks] += np.stack([batch[name].view(np.uint64) for name in names], axis=1)
        self._lifetime_max[stacks] += batch["lifetime_max"]
        self._lifetime_bits[stacks] += batch["lifetime_sum"]

    def _take_endings(self, closed: Closed) -> None:
        self._endings.append(closed)
        self._kept += closed.size
        while self._kept - self._endings[0].size > HISTORY_CAPACITY:
            self._kept -= self._endings.popleft().size

    def _take_samples(self, batch: Columns) -> None:
        stacks = _numbers(batch["stack"], len(self._stacks), "a call stack")
        places = _numbers(batch["place"], _PLACES, "a place for samples")
        self._samples = grown(self._samples, int(stacks.max(initial=-1)) + 1, _GROWTH)
        samples = np.zeros(stacks.size, TRAITS)
        for name in TRAITS.names or ():
            samples[name] = batch[name]
        self._samples[stacks, places] = samples


class _Words:
    """Values that are added to, each of some u64 words."""

    def __init__(self, words: int) -> None:
        self._columns: list[U64] = [np.zeros(0, np.uint64) for _ in range(words)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, columns: Sequence[U64]) -> None:
        end = self._count + columns[0].size
        for number, column in enumerate(columns):
            self._columns[number] = grown(self._columns[number], end, _GROWTH)
            self._columns[number][self._count : end] = column
        self._count = end

    def column(self, number: int) -> U64:
        return self._columns[number][: self._count]

    def columns(self) -> list[U64]:
        return [self.column(number) for number in range(len(self._columns))]


class _RowsReader:
    """What is outstanding, by row."""

    def __init__(self) -> None:
        self._table: npt.NDArray[Any] = np.zeros(0, _ROW)

    def add(self, batch: Columns) -> None:
        rows = _numbers(batch["row"], MOST_ROWS, "an outstanding allocation")
        self._table = grown(self._table, int(rows.max(initial=-1)) + 1, _GROWTH)
        for name in tables.OUTSTANDING.columns:
            if name != "row":
                self._table[name][rows] = summed(batch[name]) if name in _ROW_DIFFERENCES else batch[name]
        self._table["held"][rows] = 1

    def remove(self, gone: npt.NDArray[np.uint32]) -> None:
        self._table["held"][gone[gone < self._table.size]] = 0  # others came and went between two flushes

    def rows(self) -> npt.NDArray[Any]:
        """Those that are held, by ascending row."""
        held: npt.NDArray[Any] = self._table[self._table["held"] == 1]
        return held


def _closed(batch: Columns) -> Closed:
    closed = np.zeros(batch["object"].size, CLOSED)
    for name in CLOSED.names or ():
        closed[name] = batch[name]
    return closed


def _numbers(numbers: npt.NDArray[Any], below: int, what: str) -> Index:
    if numbers.size and int(numbers.max()) >= below:
        raise ValueError(f"{what} of number {int(numbers.max())} is not told")
    return numbers.astype(np.intp)
