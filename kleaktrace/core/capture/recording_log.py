# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording as flushes of rows, and flushes of rows as a recording."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.capture import tables
from kleaktrace.core.capture.events_log import EventsLog
from kleaktrace.core.capture.facts import Facts, KnownFacts, at_the_end, at_the_start, in_between
from kleaktrace.core.capture.ledger_log import LedgerLog, LedgerReader
from kleaktrace.core.capture.levels_log import LevelsLog, LevelsReader, NewLevels
from kleaktrace.core.capture.names_log import NamesLog, NamesReader, NewNames
from kleaktrace.core.capture.suspects_log import SuspectsReader, suspect_batches
from kleaktrace.core.capture.tables import ENDINGS_A_PART, TABLES, Columns, TableLayout, rows_in
from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.loss import Allocator, Loss, LossWindow, LostEvents
from kleaktrace.core.events.records import Batch
from kleaktrace.core.ledger.ledger import Ledger, LedgerChanges, LedgerCursor
from kleaktrace.core.rates.rate_table import MACHINE_COUNTERS, MachineHistory
from kleaktrace.core.recording import Recording

FLUSH_NS = 1_000_000_000
"""So much of a session is lost at most if the capture breaks off, as flushes are no further apart; where the machine
stalls they are, and then it may be as much as they ever were."""

_BROKEN_OFF = "events after the capture broke off (at the rate of before)"

_NAMES = frozenset(
    table.name
    for table in (
        *(tables.FRAMES, tables.STACKS, tables.STACK_FRAMES, tables.SITES, tables.SITE_KEYS),
        *(tables.FUNCTIONS, tables.CACHES, tables.MODULES, tables.PROGRAMS),
    )
)
_EVENTS = frozenset(
    table.name
    for table in (*(tables.EVENT_SHAPES, tables.EVENT_TASKS, tables.EVENT_BATCHES, tables.EVENTS, tables.EVENTS_PLAIN),)
)
_LEVELS = frozenset(table.name for table in (tables.LEVELS, tables.LEVEL_CHANGES, tables.LEVELS_KEPT))
_SUSPECTS = frozenset(
    table.name for table in (tables.SUSPECTS, tables.SUSPECT_FRAMES, tables.READINGS, tables.ANSWERS, tables.CONTENTS)
)


@dataclass(frozen=True, slots=True)
class Flush:
    """What is added at once: batches of some tables, in the order of `TABLES`, and its row of `FLUSHES`."""

    batches: Sequence[tuple[TableLayout, Columns]]
    row: Columns


@dataclass(frozen=True, slots=True)
class Look:
    """Copies of what a recording has that is new, taken while it rests."""

    recording: Recording
    changes: LedgerChanges
    names: NewNames
    levels: NewLevels
    machine: Mapping[str, int]

    @property
    def events(self) -> int:
        """How many events there were so far."""
        books = self.changes.stacks
        return int(books.by_context.sum() + books.cell_counts.sum()) + self.changes.unknown_frees


class RecordingLog:
    """Turns what is new of one session into flushes: `look` while it rests, and then `flush`, which may take longer."""

    def __init__(self, ledger: Ledger) -> None:
        ledger.track_changes()
        self._cursor = LedgerCursor()
        self._ledger, self._names, self._levels, self._events = LedgerLog(), NamesLog(), LevelsLog(), EventsLog()
        self._losses = 0
        self._facts: dict[str, str] = {}
        self._parts = {"rows_part": -1, "endings_part": 0}
        self._endings_in_part = 0

    def look(
        self,
        recording: Recording,
        with_samples: bool = False,
        machine: Mapping[str, int] | None = None,
        anew: bool = False,
    ) -> Look:
        """Take what is new.

        with_samples: samples of what was freed, too, which are many. machine: what /proc/meminfo says, of which
        `MACHINE_COUNTERS` are kept. anew: begin another part of what is outstanding.
        """
        ledger = recording.ledger
        changes = ledger.changes(self._cursor, with_samples, anew)
        self._cursor = changes.cursor
        levels, names = self._levels.look(recording.history), self._names.look(recording.names)
        machine = {name: machine[name] for name in MACHINE_COUNTERS if name in machine} if machine else {}
        return Look(recording, changes, names, levels, machine)

    def flush(self, look: Look, events: Sequence[Batch] = ()) -> Flush:
        """The rows for it; `events` are those to be kept one by one."""
        facts = {**at_the_start(look.recording), **in_between(look.recording)}
        batches = [*self._fact_batch(facts), *self._batches(look), *self._events.batches(events)]
        return self._flush(look, batches, last=False)

    def last_flush(self, look: Look, events: Sequence[Batch] = ()) -> Flush:
        """The rows for it, and for all that was learned beside the events. There is no other after it."""
        facts = {**at_the_start(look.recording), **in_between(look.recording), **at_the_end(look.recording)}
        batches = [*self._fact_batch(facts), *self._batches(look), *self._events.batches(events)]
        return self._flush(look, [*batches, *suspect_batches(look.recording)], last=True)

    def _batches(self, look: Look) -> Iterator[tuple[TableLayout, Columns]]:
        sites = self._ledger.new_sites(look.changes)
        yield from self._names.batches(look.names, sites, look.recording.names.sites.frame)
        yield from self._ledger.batches(look.changes)
        yield from self._levels.batches(look.levels)
        windows = look.recording.loss.windows
        yield (
            tables.MACHINE,
            {
                "time_ns": np.full(len(look.machine), look.recording.clock.end.time_ns, np.uint64),
                "counter": list(look.machine),
                "bytes": np.array(list(look.machine.values()), np.uint64),
            },
        )
        yield tables.LOSSES, _loss_columns(windows[self._losses :])
        self._losses = len(windows)

    def _fact_batch(self, facts: Facts) -> Iterator[tuple[TableLayout, Columns]]:
        """Those that are new, or not what they were."""
        told = {name: json.dumps(value) for name, value in facts.items()}
        new = {name: value for name, value in told.items() if self._facts.get(name) != value}
        self._facts.update(new)
        yield tables.FACTS, {"name": list(new), "value": list(new.values())}

    def _flush(self, look: Look, batches: Iterable[tuple[TableLayout, Columns]], last: bool) -> Flush:
        some = {table.name: (table, batch) for table, batch in batches if rows_in(batch)}
        end, changes = look.recording.clock.end, look.changes
        self._choose_parts(changes)
        row = {
            "tables": sum(1 << bit for bit, table in enumerate(TABLES) if table.name in some),
            "time_ns": end.time_ns,
            "jiffies": end.jiffies,
            "anew": changes.rows.anew,
            **self._parts,
            "unknown_frees": changes.unknown_frees,
            "double_events": changes.double_events,
            "forgotten_ns": changes.forgotten_ns,
            "events": look.events,
            "last": last,
        }
        columns = {name: np.array([row[name]], kind.dtype) for name, kind in tables.FLUSHES.columns.items()}
        return Flush([some[table.name] for table in TABLES if table.name in some], columns)

    def _choose_parts(self, changes: LedgerChanges) -> None:
        self._parts["rows_part"] += changes.rows.anew
        if self._endings_in_part >= ENDINGS_A_PART:
            self._parts["endings_part"] += 1
            self._endings_in_part = 0
        self._endings_in_part += changes.endings.size


def _loss_columns(windows: Sequence[LossWindow]) -> Columns:
    none = (0,) * len(Allocator)
    frees = np.array([window.frees or none for window in windows], np.uint64).reshape(-1, len(Allocator))
    return {
        "from_ns": np.array([window.from_ns for window in windows], np.uint64),
        "to_ns": np.array([window.to_ns for window in windows], np.uint64),
        "events": np.array([window.events for window in windows], np.uint64),
        "known": np.array([window.frees is not None for window in windows], np.uint8),
        **{name: frees[:, place] for place, name in enumerate(allocator.name.lower() for allocator in Allocator)},
    }


class RecordingReader:
    """Puts a recording together from flushes. Raises ValueError where they do not make one."""

    def __init__(self) -> None:
        self._facts: dict[str, object] = {}
        self._names, self._ledger = NamesReader(), LedgerReader()
        self._levels, self._suspects = LevelsReader(), SuspectsReader()
        self._losses: list[LossWindow] = []
        self._machine = MachineHistory()
        self._last: Mapping[str, int] | None = None
        self._rate = 0.0
        self._longest_ns = FLUSH_NS
        """Between two flushes, at worst."""

    def take(self, flush: Flush) -> None:
        """Take the next flush."""
        row = {name: int(flush.row[name][0]) for name in tables.FLUSHES.columns}
        if row["anew"]:
            self._ledger.forget_rows()
        for table, batch in flush.batches:
            self._take_batch(table, batch)
        if self._last is not None:
            passed_ns = max(row["time_ns"] - self._last["time_ns"], 1)
            self._rate = max(row["events"] - self._last["events"], 0) / (passed_ns / 1e9)
            self._longest_ns = max(self._longest_ns, passed_ns)
        self._last = row

    def recording(self) -> Recording:
        """The session as of the last flush. If it went on after that, that is a loss."""
        if self._last is None:
            raise ValueError("it broke off before anything was kept")
        facts, last, losses = KnownFacts(self._facts), self._last, self._losses
        end, loss = Moment(last["time_ns"], last["jiffies"]), facts.loss(losses)
        gaps: list[str] = []
        clock = JiffiesClock(facts.start(), end)
        if not last["last"]:
            clock, loss = self._broken_off(clock, loss)
            after_s = (end.time_ns - clock.start.time_ns) / 1e9
            gaps = [
                f"the capture breaks off after {after_s:.1f} s: up to {self._longest_ns / 1e9:.1f} s may not be kept"
            ]
        names = self._names.names()
        names.build_ids.update(facts.build_ids())
        return Recording(
            kernel=facts.kernel(),
            processors=facts.processors(),
            started=facts.started(),
            clock=clock,
            ledger=self._ledger.ledger(
                loss.windows, last["unknown_frees"], last["double_events"], last["forgotten_ns"]
            ),
            names=names,
            history=self._levels.history(self._ledger.stacks),
            loss=loss,
            coverage=facts.coverage(),
            context_source=facts.context_source(),
            stack_check=facts.stack_check(),
            readings=self._suspects.readings(facts.readings()),
            answers=self._suspects.answers,
            watched_s=facts.watched_s(),
            series=facts.series(),
            alive=facts.alive(),
            command=facts.command(),
            growth_windows=facts.growth_windows(),
            settled=facts.settled(),
            walk=facts.walk(),
            missing=facts.missing(),
            contents=self._suspects.contents(facts.contents()),
            gaps=[*facts.gaps(), *gaps],
            machine=self._machine,
        )

    def _take_machine(self, batch: Columns) -> None:
        used: dict[int, dict[str, int]] = {}
        for time_ns, counter, size in zip(
            batch["time_ns"].tolist(), batch["counter"], batch["bytes"].tolist(), strict=True
        ):
            used.setdefault(time_ns, {})[counter] = size
        for time_ns, counters in used.items():
            self._machine.sample(time_ns, counters)

    def _broken_off(self, clock: JiffiesClock, loss: Loss) -> tuple[JiffiesClock, Loss]:
        """It went on, for as long as it takes to the next flush at most, and what happened then is lost."""
        lost_s = self._longest_ns / 1e9
        end = Moment(clock.end.time_ns + self._longest_ns, clock.end.jiffies + round(clock.hz * lost_s))
        events = max(round(self._rate * lost_s), 1)
        window = LossWindow(clock.end.time_ns, end.time_ns, events)
        causes = (*loss.causes, LostEvents(_BROKEN_OFF, events))
        windows = (*loss.windows, window)
        return JiffiesClock(clock.start, end), Loss(loss.events + events, loss.stacks, loss.names, windows, causes)

    def _take_batch(self, table: TableLayout, batch: Columns) -> None:
        if table.name in _NAMES:
            self._names.take(table, batch)
        elif table.name in _LEVELS:
            self._levels.take(table, batch, self._ledger.stacks.size)
        elif table.name in _SUSPECTS:
            self._suspects.take(table, batch)
        elif table == tables.FACTS:
            for name, value in zip(batch["name"], batch["value"], strict=True):
                self._facts[name] = json.loads(value)
        elif table == tables.LOSSES:
            self._losses += _read_losses(batch)
        elif table == tables.MACHINE:
            self._take_machine(batch)
        elif table.name not in _EVENTS:  # what they came to is told by the others
            self._ledger.take(table, batch)


def _read_losses(batch: Columns) -> list[LossWindow]:
    rows = zip(*(batch[name].tolist() for name in tables.LOSSES.columns), strict=True)
    return [
        LossWindow(from_ns, to_ns, events, tuple(frees) if known else None)
        for from_ns, to_ns, events, known, *frees in rows
    ]
