# SPDX-License-Identifier: GPL-2.0-or-later
"""Which allocations are outstanding, what became of the others, and how far that can be trusted.

A batch is worked off as a whole. Its events are grouped by address; within a group the state before an event
follows from the event before it, and only before the first event of a group the table is asked. So what lives
and dies inside one batch costs a look-up and its statistics, and never enters the table. However a stream is
cut into batches, the outcome is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import parts
from kleaktrace.core.arrays.types import U64, Index, Mask
from kleaktrace.core.events.loss import LossWindow
from kleaktrace.core.events.records import ALLOCATION, Batch, Kind, Rows
from kleaktrace.core.ledger.ending_memory import (
    HISTORY_CAPACITY,
    HISTORY_MIN_LIFETIME_NS,
    EndingMemory,
    Endings,
    describe,
    ended,
    lifetimes_of,
    unmatched,
)
from kleaktrace.core.ledger.event_matching import (
    Matches,
    Reallocations,
    is_double_event,
    match_events,
    second_of_two,
)
from kleaktrace.core.ledger.free_history import CLOSED, Closed, Ending
from kleaktrace.core.ledger.free_samples import SiblingSamples, Traits
from kleaktrace.core.ledger.outstanding_table import (
    OUTSTANDING,
    Likeness,
    OutstandingRows,
    RowChanges,
    keys_of,
    object_keys,
    take_rows,
)
from kleaktrace.core.ledger.page_blocks import block_orders, blocks_around, blocks_inside, pieces
from kleaktrace.core.ledger.stack_counters import StackSnapshot, StackStatistics, StackTable, StackTableState
from kleaktrace.core.ledger.tally import Tally, TallyCounts

_MAX_LOSS_WINDOWS = 4096

_AT_ONCE = 1 << 16
"""Looking at what is outstanding takes a hundred bytes for each of so many; for all it would be more than they have."""


_PAGE_EVENTS = 1 << 10
"""So many are looked at at once where blocks of pages are split, as each split means to look again."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the ledger began. Always allocations == frees + implied_frees + outstanding."""

    allocations: int
    frees: int
    """Frees that were seen, of allocations that were seen."""
    outstanding: int
    outstanding_bytes: int
    """As allocated (`bytes_alloc`)."""
    implied_frees: int
    """Allocations at addresses that were still outstanding: their frees were missed."""
    unknown_frees: int
    """Frees of what was not outstanding: allocated before tracing, or untraced, or lost."""
    double_events: int
    """Second events of one allocation, see `is_double_event`."""


@dataclass(frozen=True, slots=True)
class Survivors:
    """Outstanding allocations of some stacks, in parallel arrays."""

    stack_index: npt.NDArray[np.int32]
    """Which of the stacks asked for."""
    time_ns: U64
    """When allocated."""
    bytes: U64
    """As allocated (`bytes_alloc`)."""

    @classmethod
    def none(cls) -> Survivors:
        """No survivors."""
        return cls(np.zeros(0, np.int32), np.zeros(0, np.uint64), np.zeros(0, np.uint64))

    @classmethod
    def joined(cls, several: Sequence[Survivors]) -> Survivors:
        """All of several."""
        return cls(
            np.concatenate([each.stack_index for each in several]),
            np.concatenate([each.time_ns for each in several]),
            np.concatenate([each.bytes for each in several]),
        )


@dataclass(frozen=True, slots=True)
class LedgerCursor:
    """How far somebody has read what only grows: endings of the history, and endings that were watched for."""

    endings: int = 0
    watched: int = 0


@dataclass(frozen=True, slots=True)
class LedgerChanges:
    """What became of a ledger since a `LedgerCursor`; the counters and the samples as they are now.

    samples: as `SiblingSamples.state`; None: they were not asked for. The loss windows are not in it.
    """

    rows: RowChanges
    stacks: StackTableState
    endings: Closed
    forgotten_ns: int
    watched: Closed
    implied: Mapping[tuple[int, int, int], int]
    unknown_frees: int
    double_events: int
    samples: tuple[Traits, Traits] | None
    cursor: LedgerCursor


@dataclass(frozen=True, slots=True)
class LedgerState:
    """All that a ledger tells, to make one that tells the same."""

    rows: OutstandingRows
    stacks: StackTable
    samples: SiblingSamples
    endings: Closed
    forgotten_ns: int
    watched: Closed
    implied: Mapping[tuple[int, int, int], int]
    unknown_frees: int
    double_events: int
    losses: Sequence[LossWindow]


class Ledger:
    """Matches frees with allocations by address, and keeps the books per call stack.

    Memory: 43 to 52 bytes per outstanding allocation (see `OutstandingRows`), a few hundred to a thousand per
    distinct stack (see `stack_statistics`) and 1.3 KiB more for its `SiblingSamples`, and 66 bytes for each of the last
    `history_capacity` endings.

    Objects are named by their hidden addresses (`records.hide`), in events as in questions.
    Single-threaded; the caller owns the batches, nothing of them is kept.
    """

    def __init__(
        self,
        history_capacity: int = HISTORY_CAPACITY,
        history_min_lifetime_ns: int = HISTORY_MIN_LIFETIME_NS,
    ) -> None:
        self._rows = OutstandingRows()
        self._stacks = StackTable()
        self._samples = SiblingSamples()
        self._endings = EndingMemory(history_capacity, history_min_lifetime_ns)
        self._implied: dict[tuple[int, int, int], int] = {}  # by kind, cache, and of kmallocs bytes
        self._unknown_frees = 0
        self._double_events = 0
        self._losses: list[LossWindow] = []

    # Kept and read back

    @classmethod
    def restored(cls, state: LedgerState) -> Ledger:
        """A ledger that answers as the one did whose state it is. It is to be asked, and not fed.

        Raises ValueError where the state does not agree with itself.
        """
        made = cls()
        made._rows, made._stacks, made._samples = state.rows, state.stacks, state.samples
        if int(state.rows.stacks(state.rows.index.rows).max(initial=-1)) >= len(state.stacks):
            raise ValueError("an outstanding allocation has a call stack that is not told")
        made._endings = EndingMemory.restored(state.endings, state.forgotten_ns, state.watched)
        made._implied = dict(state.implied)
        made._unknown_frees, made._double_events = state.unknown_frees, state.double_events
        for window in state.losses:
            made.note_loss(window)
        return made

    def track_changes(self) -> None:
        """From now on, remember what changes, for `changes`. One reader only."""
        self._rows.track_changes()

    def changes(self, since: LedgerCursor, with_samples: bool, anew: bool = False) -> LedgerChanges:
        """What became of the ledger since the last call, whose cursor `since` is. Copies, made quickly.

        anew: all that is outstanding is told, and not what changed of it.
        """
        history, watched = self._endings.history, self._endings.at_watched()
        return LedgerChanges(
            rows=self._rows.take_changes(anew),
            stacks=self._stacks.state(),
            endings=history.since(since.endings),
            forgotten_ns=history.complete_since_ns,
            watched=watched[since.watched :],
            implied=dict(self._implied),
            unknown_frees=self._unknown_frees,
            double_events=self._double_events,
            samples=self._samples.state() if with_samples else None,
            cursor=LedgerCursor(history.added, watched.size),
        )

    # Events in

    def apply(self, batch: Batch) -> None:
        """Enter a batch. Batches come in stream order; within one, `sequence` decides."""
        if batch.size:
            self._apply(np.ascontiguousarray(batch.allocations), np.ascontiguousarray(batch.frees))

    def note_loss(self, window: LossWindow) -> None:
        """Remember that events were lost. Of very many windows, the oldest are merged."""
        self._losses.append(window)
        if len(self._losses) > _MAX_LOSS_WINDOWS:
            first, second, *rest = self._losses
            self._losses = [first.merged(second), *rest]

    # What is outstanding

    def totals(self) -> Totals:
        """Return the counts so far."""
        counters = self._stacks.snapshot()
        return Totals(
            allocations=int(counters.allocations.sum()),
            frees=int(counters.frees.sum()),
            outstanding=len(self._rows),
            outstanding_bytes=int(counters.outstanding_bytes.sum()),
            implied_frees=int(counters.implied_frees.sum()),
            unknown_frees=self._unknown_frees,
            double_events=self._double_events,
        )

    @property
    def outstanding_count(self) -> int:
        """How many allocations are outstanding."""
        return len(self._rows)

    def outstanding(self, stacks: Iterable[int] | None = None) -> npt.NDArray[Any]:
        """Return a copy of all outstanding allocations, OUTSTANDING rows in no particular order.

        With `stacks`, a set of keys, only those of these stacks.
        """
        rows = self._rows.index.rows
        if stacks is not None:
            places = self._stacks.places(np.array(list(stacks), np.uint64))
            rows = rows[places.take(self._rows.stacks(rows)) >= 0]
        return self._rows.decode(rows, self._stacks.keys)

    def tally(self, born_by_ns: int | None = None, born_from_ns: int | None = None, by_process: bool = False) -> Tally:
        """Count the outstanding allocations by what they look like.

        born_by_ns, born_from_ns: only those made up to, and from then on. by_process: what different processes made, or
        in different cgroups, does not look the same.
        """
        likeness, counts = Likeness(self._rows, by_process), TallyCounts()
        for some in parts(self._rows.index.rows, _AT_ONCE):
            times, sizes = self._rows.births(some)
            chosen = _within(times, born_from_ns, born_by_ns)
            rows = some[chosen]
            counts.add(likeness.numbers(rows), rows, sizes[chosen], times[chosen])
        return counts.tally(lambda rows: self._rows.decode(rows, self._stacks.keys))

    def lookup(self, addresses: npt.ArrayLike, percpu: npt.ArrayLike = False) -> tuple[Mask, npt.NDArray[Any]]:
        """Return (found, allocations): what is outstanding at the addresses, OUTSTANDING rows, zero if nothing.

        `percpu` says which addresses are per-CPU offsets (one bool, or one per address).
        """
        rows = self._rows.index.lookup(object_keys(*_asked(addresses, percpu)))
        found = rows >= 0
        allocations = np.zeros(rows.size, OUTSTANDING)
        allocations[found] = self._rows.decode(rows[found], self._stacks.keys)
        return found, allocations

    @property
    def nbytes(self) -> int:
        """Bytes held in tables."""
        return self._rows.nbytes + self._stacks.nbytes + self._samples.nbytes + self._endings.nbytes

    # What ended

    def history(self, addresses: npt.ArrayLike, percpu: npt.ArrayLike = False) -> Closed:
        """Return the remembered endings at the addresses, CLOSED rows, oldest first.

        Remembered are the last endings of allocations that lived `history_min_lifetime_ns` or longer. That
        there is none proves "not freed" only for what would have ended after `history_complete_since_ns`.
        """
        return self._endings.of(*_asked(addresses, percpu))

    @property
    def history_complete_since_ns(self) -> int:
        """Every ending after this time is in the history (of those long-lived enough); 0: none was forgotten."""
        return self._endings.history.complete_since_ns

    def watch(self, addresses: npt.ArrayLike, percpu: npt.ArrayLike = False) -> None:
        """From now on, remember the first ending or unmatched free at each of the addresses.

        An address is watched once per call; one that has had its ending is watched again.
        """
        self._endings.watch(*_asked(addresses, percpu))

    def watched_frees(self) -> Closed:
        """Return what was seen at watched addresses since they were watched, CLOSED rows, oldest first."""
        return self._endings.at_watched()

    # The books

    def stack_statistics(self, stacks: Iterable[int]) -> list[StackStatistics]:
        """Return the statistics of stacks by key, in the order asked; all zero for one never seen."""
        return self._stacks.statistics(stacks)

    def freed_samples(self, stacks: Iterable[int]) -> list[Traits]:
        """Return up to 32 of the freed allocations of each stack (by key), TRAITS rows in no particular order."""
        return [self._samples.of(number) for number in self._stacks.numbers(stacks).tolist()]

    def lifetime_counts(self, stacks: npt.ArrayLike) -> U64:
        """Return how many of each stack's allocations (rows, as asked) were freed at which age.

        Columns are the bins of `stack_counters.bin_range`. Stacks are asked for once each.
        """
        return self._stacks.lifetime_counts(np.asarray(stacks, np.uint64))

    def survivors(self, stacks: npt.ArrayLike) -> Survivors:
        """Return what is outstanding of these stacks, in no particular order. Stacks are asked for once each.

        Reads 4 bytes of every outstanding allocation, and the others' records not at all.
        """
        places = self._stacks.places(np.asarray(stacks, np.uint64)).astype(np.int32)
        found = [Survivors.none()]
        for rows in parts(self._rows.index.rows, _AT_ONCE):
            place = places.take(self._rows.stacks(rows))
            wanted = place >= 0
            found.append(Survivors(place[wanted], *self._rows.births(rows[wanted])))
        return Survivors.joined(found)

    def snapshot(self) -> StackSnapshot:
        """Copy the counters of all stacks; the difference of two is what happened between them."""
        return self._stacks.snapshot()

    @property
    def implied_frees_by_cache(self) -> dict[int, int]:
        """Implied frees by cache key; 0: not from a named cache."""
        found: dict[int, int] = {}
        for (_, cache, _), count in self._implied.items():
            found[cache] = found.get(cache, 0) + count
        return found

    @property
    def implied_frees_by_origin(self) -> dict[tuple[int, int, int], int]:
        """Implied frees by kind, cache key, and bytes of a kmalloc (else 0): what `KernelNames.cache` takes."""
        return dict(self._implied)

    @property
    def losses(self) -> tuple[LossWindow, ...]:
        """The loss windows noted."""
        return tuple(self._losses)

    # One batch

    def _apply(self, allocations: Rows, frees: Rows) -> None:
        matches = self._match(allocations, frees)
        if (frees["kind"].take(matches.unknown_frees) == Kind.PAGES).any():
            of_pages = allocations["kind"] == Kind.PAGES, frees["kind"] == Kind.PAGES
            self._apply_pages(allocations[of_pages[0]], frees[of_pages[1]])
            self._apply_as_is(allocations[~of_pages[0]], frees[~of_pages[1]])
        else:
            self._enter(allocations, frees, matches)

    def _apply_as_is(self, allocations: Rows, frees: Rows) -> None:
        """Apply events of which every free is one of a whole object, or of what is not outstanding."""
        if allocations.size or frees.size:
            self._enter(allocations, frees, self._match(allocations, frees))

    def _match(self, allocations: Rows, frees: Rows) -> Matches:
        sequence = np.concatenate([allocations["sequence"], frees["sequence"]])
        return match_events(keys_of(allocations), keys_of(frees), sequence, self._rows.index)

    def _apply_pages(self, allocations: Rows, frees: Rows) -> None:
        """Apply events of pages, with frees among them of pages that are not outstanding as just such a block."""
        while allocations.size or frees.size:
            sequence = np.sort(np.concatenate([allocations["sequence"], frees["sequence"]]))
            until = sequence[:_PAGE_EVENTS][-1] + np.uint64(1)
            (some, some_frees), rest = _cut(allocations, frees, until)
            matches = self._match(some, some_frees)
            unknown = some_frees["sequence"][matches.unknown_frees]
            if unknown.size:
                # All before the first of them has met what it should.
                (some, some_frees), (allocations, frees) = _cut(allocations, frees, unknown.min())
                self._apply_as_is(some, some_frees)
                self._free_parts(frees[:1])
                frees = frees[1:]
            else:
                self._enter(some, some_frees, matches)
                allocations, frees = rest

    def _free_parts(self, free: Rows) -> None:
        """Enter one free of pages that are not outstanding as one block, but as a part of one, or as several."""
        name = np.ascontiguousarray(free["object"])
        around = blocks_around(name)[0]
        rows = self._rows.index.lookup(around)
        larger = np.flatnonzero((rows >= 0) & (around != 0))
        if larger.size:
            self._split(int(around[larger[0]]), int(block_orders(name)[0]))
            frees = free.copy()
        else:
            inside = blocks_inside(int(name[0]))
            inside = inside[self._rows.index.lookup(inside) >= 0]
            frees = np.repeat(free, max(inside.size, 1))
            if inside.size:
                frees["object"] = inside
        frees["sequence"] = np.arange(frees.size)
        self._apply_as_is(np.zeros(0, ALLOCATION), frees)

    def _split(self, block: int, order: int) -> None:
        """Have a block of pages be as many allocations as it has pieces of an order: each is freed by itself now."""
        names = np.array([block], np.uint64)
        rows, slots = self._rows.index.find(names)
        whole = self._rows.decode(rows, self._stacks.keys)
        stacks = self._rows.stacks(rows)
        self._rows.remove(rows, slots)
        self._stacks.retract(stacks, whole["bytes_alloc"], whole["context"])

        parts = pieces(block, order)
        made = np.repeat(whole, parts.size)
        made["object"] = parts
        made["bytes_req"] = made["bytes_alloc"] = whole["bytes_alloc"] // np.uint64(parts.size)
        stacks = np.repeat(stacks, parts.size)
        self._stacks.allocated(stacks, made["bytes_alloc"], made["context"])
        self._rows.write(self._rows.insert(parts), made, stacks, np.zeros(parts.size, np.bool_))

    def _enter(self, allocations: Rows, frees: Rows, matches: Matches) -> None:
        """Enter a batch that is matched."""
        stacks = self._stacks.index(np.ascontiguousarray(allocations["stack"]))
        sizes = np.ascontiguousarray(allocations["bytes_alloc"])
        self._stacks.allocated(stacks, sizes, allocations["context"])

        endings = self._end_freed(allocations, frees, stacks, sizes, matches)
        doubled = np.zeros(allocations.size, np.bool_)
        if matches.reallocations.newer.size:
            endings.append(self._end_reallocated(allocations, matches.reallocations, doubled))
        if self._endings.is_watching:
            endings.append(unmatched(take_rows(frees, matches.unknown_frees)))
        self._unknown_frees += matches.unknown_frees.size
        self._endings.remember(endings)

        self._rows.remove(matches.removed_rows, matches.removed_slots)
        new_rows = self._rows.insert(matches.new_keys)
        rows = np.concatenate([matches.kept_rows, new_rows])
        which = np.concatenate([matches.kept_allocations, matches.new_allocations])
        self._rows.write(rows, take_rows(allocations, which), stacks[which], doubled[which])
        self._rows.compact()

    def _end_freed(self, allocations: Rows, frees: Rows, stacks: Index, sizes: U64, matches: Matches) -> list[Endings]:
        """Book what was freed: first what lived and died within the batch, then what was in the table."""
        paired, rows = matches.paired_allocations, matches.freed_rows
        died = np.concatenate([matches.paired_frees, matches.row_frees])
        row_births, row_sizes = self._rows.births(rows)
        births = np.concatenate([np.ascontiguousarray(allocations["time_ns"]).take(paired), row_births])
        stacks = np.concatenate([stacks.take(paired), self._rows.stacks(rows)])
        sizes = np.concatenate([sizes.take(paired), row_sizes])
        lifetimes = lifetimes_of(births, np.ascontiguousarray(frees["time_ns"]).take(died))
        self._stacks.freed(stacks, sizes, lifetimes, np.ascontiguousarray(frees["call_site"]).take(died))
        self._sample(stacks, allocations, matches)

        kept = self._endings.worth_keeping(lifetimes, lambda: keys_of(take_rows(frees, died)))
        of_batch = int(np.searchsorted(kept, paired.size))
        closed = np.zeros(kept.size, CLOSED)
        describe(take_rows(allocations, paired[kept[:of_batch]]), closed[:of_batch])
        self._rows.describe(rows[kept[of_batch:] - paired.size], self._stacks.keys, closed[of_batch:])
        return [ended(closed, take_rows(frees, died[kept]), lifetimes[kept], Ending.FREE)]

    def _sample(self, stacks: Index, allocations: Rows, matches: Matches) -> None:
        """Keep samples of what was freed; `stacks` of what is paired, then of the table's rows."""
        paired, rows = matches.paired_allocations, matches.freed_rows
        chosen = self._samples.choose(stacks)
        of_batch, of_table = np.split(chosen, [np.searchsorted(chosen, paired.size)])
        self._samples.add(stacks[of_batch], of_batch, take_rows(allocations, paired[of_batch]))
        if of_table.size:
            decoded = self._rows.decode(rows[of_table - paired.size], self._stacks.keys)
            self._samples.add(stacks[of_table], of_table, decoded)
        self._samples.next_batch()

    def _end_reallocated(self, allocations: Rows, met: Reallocations, doubled: Mask) -> Endings:
        """Book allocations at outstanding addresses: second events, marked in `doubled`, or missed frees."""
        in_table = met.rows >= 0
        older = np.zeros(met.newer.size, OUTSTANDING)
        older[in_table] = self._rows.decode(met.rows[in_table], self._stacks.keys)
        before = take_rows(allocations, met.older[~in_table])
        for name in OUTSTANDING.names or ():
            older[name][~in_table] = before[name]
        newer = take_rows(allocations, met.newer)
        was_second = np.zeros(met.newer.size, np.bool_)
        was_second[in_table] = self._rows.doubled(met.rows[in_table])

        second = second_of_two(is_double_event(older, newer), met.follows, was_second)
        doubled[met.newer[second]] = True
        self._double_events += int(np.count_nonzero(second))
        stacks = self._stacks.index(np.ascontiguousarray(older["stack"]))
        self._stacks.retract(stacks[second], older["bytes_alloc"][second], older["context"][second])

        missed = ~second
        older, newer = older[missed], newer[missed]
        self._stacks.implied_freed(stacks[missed], older["bytes_alloc"])
        origins, counts = np.unique(older[["kind", "cache", "bytes_alloc"]], return_counts=True)
        for (kind, cache, size), count in zip(origins.tolist(), counts.tolist(), strict=True):
            origin = (kind, cache, size if kind == Kind.KMALLOC else 0)
            self._implied[origin] = self._implied.get(origin, 0) + count
        lifetimes = lifetimes_of(older["time_ns"], newer["time_ns"])
        closed = np.zeros(older.size, CLOSED)
        describe(older, closed)
        return ended(closed, newer, lifetimes, Ending.IMPLIED)


def _cut(allocations: Rows, frees: Rows, at: np.uint64) -> tuple[tuple[Rows, Rows], tuple[Rows, Rows]]:
    """What comes before a place in the stream, and what comes from there on; both are in stream order."""
    first, second = np.searchsorted(allocations["sequence"], at), np.searchsorted(frees["sequence"], at)
    return (allocations[:first], frees[:second]), (allocations[first:], frees[second:])


def _within(times: U64, from_ns: int | None, by_ns: int | None) -> slice | Mask:
    """Which of the times lie in [from, by]; None: that end is open."""
    if from_ns is None and by_ns is None:
        return slice(None)
    chosen = np.ones(times.size, np.bool_)
    if from_ns is not None:
        chosen &= times >= np.uint64(max(from_ns, 0))
    if by_ns is not None:
        chosen &= times <= np.uint64(max(by_ns, 0))
    return chosen


def _asked(addresses: npt.ArrayLike, percpu: npt.ArrayLike) -> tuple[U64, Mask]:
    asked = np.atleast_1d(np.asarray(addresses, np.uint64))
    return asked, np.broadcast_to(np.asarray(percpu, np.bool_), asked.shape)
