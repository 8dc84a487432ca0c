# SPDX-License-Identifier: GPL-2.0-or-later
"""A tracing session: a source that is drained, and safe looks at what was learned."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.coverage import Coverage, CoverageKind, counts_guard_pages, kinds_missed, kinds_seen
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Kind, Rows
from kleaktrace.core.evidence.evidence import JudgedSuspect
from kleaktrace.core.growth.growing_stacks import StackDeduplicator
from kleaktrace.core.leaked_objects.anatomy import ObjectContents
from kleaktrace.core.ledger.ledger import Totals
from kleaktrace.core.ledger.stack_counters import StackSnapshot
from kleaktrace.core.ledger.tally import Tally
from kleaktrace.core.machine.unexplained_memory import Explained, explained_by
from kleaktrace.core.recording import Recording
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.requesters import plain_name
from kleaktrace.core.verdicts.overlooked import clearable
from kleaktrace.session.drain import Drain, Observer
from kleaktrace.session.source import EventSource


@dataclass(frozen=True, slots=True)
class Counts:
    """Copies of what a session had counted at one moment (ns, CLOCK_MONOTONIC)."""

    time_ns: int
    by_stack: StackSnapshot
    outstanding: Tally
    totals: Totals
    loss: Loss


class Session:
    """Draining from construction until `stop`. A context manager: leaving it closes the source.

    Its methods may be called from one thread, which is not the drain's. What they return are copies, but for `names`:
    names are only ever added, so reading them needs no care.
    """

    def __init__(self, source: EventSource, observer: Observer | None = None) -> None:
        self._source = source
        self._drain = Drain(source, observer)
        self._same = StackDeduplicator(source.names.stacks.get)
        self._start = source.started
        self._started = datetime.now(UTC) - timedelta(microseconds=(source.now_ns() - self._start.time_ns) / 1000)
        self._end: Moment | None = None
        self._handed_out: deque[U64 | None] = deque(maxlen=2)  # around the last scans

    @property
    def names(self) -> KernelNames:
        """Names of stacks, caches, modules and programs."""
        return self._source.names

    @property
    def loss(self) -> Loss:
        """What was lost so far."""
        return self._drain.loss

    @property
    def start(self) -> Moment:
        """When it began."""
        return self._start

    @property
    def now_ns(self) -> int:
        """The time (CLOCK_MONOTONIC) up to which events can be in the ledger."""
        return self._end.time_ns if self._end else self._source.now_ns()

    @property
    def seconds(self) -> float:
        """How long tracing has gone on, or went on if it has stopped."""
        return (self.now_ns - self._start.time_ns) / 1e9

    def catch_up(self) -> None:
        """Return when everything that had happened at the call is in the ledger. Raises `InternalFault`, as all do."""
        self._drain.catch_up()

    def stop(self) -> None:
        """Have nothing more reported, and enter what was. What objects hold can still be read. May be called twice."""
        if self._end is None:
            self._end = self._source.moment()
            self._source.pause()
            self._drain.finish()

    @contextmanager
    def looking(self) -> Iterator[Recording]:
        """What is known by now. Its ledger is the session's own: nothing is drained while the caller looks."""
        self.catch_up()
        with self._drain.held():
            yield self._recording()

    def recording(self) -> Recording:
        """What was learned, once the session has stopped. Its ledger is the session's own, and rests."""
        assert self._end is not None, "a session that goes on is looked at inside `looking`"
        with self._drain.held():
            return self._recording()

    def _recording(self) -> Recording:
        source, drain = self._source, self._drain
        return Recording(
            kernel=source.kernel,
            processors=source.processors,
            started=self._started,
            clock=JiffiesClock(self._start, self._end or source.moment()),
            ledger=drain.ledger,
            names=source.names,
            history=drain.history,
            loss=drain.loss,
            coverage=source.coverage,
            context_source=source.context_source,
            stack_check=source.stack_check,
            same=self._same,
        )

    def counts(self, older_s: float = 0.0, since_ns: int | None = None, by_process: bool = False) -> Counts:
        """The counters as of now; of what is outstanding, only what is at least so old, and made since then.

        by_process: what is outstanding is told apart by process and cgroup, too.
        """
        self.catch_up()
        with self._drain.held():
            now_ns, ledger = self.now_ns, self._drain.ledger
            tally = ledger.tally(now_ns - int(older_s * 1e9), since_ns, by_process)
            return Counts(now_ns, ledger.snapshot(), tally, ledger.totals(), self._drain.loss)

    def outstanding(self) -> Rows:
        """All OUTSTANDING rows as of now."""
        self.catch_up()
        with self._drain.held():
            return self._drain.ledger.outstanding()

    def outstanding_vmallocs(self) -> dict[int, int]:
        """By hidden address, the bytes of the range that each outstanding vmalloc takes, with its guard page."""
        rows = self.outstanding()
        rows = rows[rows["kind"] == Kind.VMALLOC]
        sizes = rows["bytes_alloc"] + (0 if counts_guard_pages(self._source.coverage) else mmap.PAGESIZE)
        return dict(zip(rows["object"].tolist(), sizes.tolist(), strict=True))

    def watch(self, objects: Sequence[int], percpu: bool) -> None:
        """Have the ledger remember frees at these hidden addresses, though it may not know their allocations."""
        with self._drain.held():
            self._drain.ledger.watch(objects, percpu)

    def free_before(self, address: int) -> int:
        """As the source has it."""
        return self._source.free_before(address)

    def left_behind(self) -> int:
        """How many allocations are outstanding, right now, that went through modules which are gone."""
        books = self.counts().by_stack  # before asking what is gone: unloads arrive with the events
        gone = self.names.symbols.unloaded
        some = books.outstanding > 0
        through = [bool(self.names.stacks.get(key).modules & gone) for key in books.stacks[some].tolist()]
        return int(books.outstanding[some][np.array(through, np.bool_)].sum())

    def left_behind_by(self, functions: Collection[str]) -> list[tuple[str, int]]:
        """Hidden addresses of what these functions allocated for modules that are gone, each with its function.

        functions: by their plain names (`requesters.plain_name`).
        """
        rows = self.outstanding()
        gone = self.names.symbols.unloaded
        makers: dict[int, str] = {}
        for key in np.unique(rows["stack"]).tolist():
            stack = self.names.stacks.get(key)
            owner = plain_name(stack.owner.name or "") if stack.owner else ""
            if owner in functions and stack.modules & gone:
                makers[key] = owner
        rows = rows[(rows["kind"] == Kind.CACHE) & np.isin(rows["stack"], np.array([*makers], np.uint64))]
        return [
            (makers[key], hidden) for key, hidden in zip(*(rows[n].tolist() for n in ("stack", "object")), strict=True)
        ]

    def read_memory(self, objects: Sequence[tuple[int, int]]) -> Sequence[U64]:
        """As the source has it: the complements of words, by hidden address and bytes."""
        return self._source.read_objects(objects)

    def left_of(self, end_ns: int) -> int:
        """How many allocations are outstanding, right now, of those made by then (CLOCK_MONOTONIC)."""
        self.catch_up()
        with self._drain.held():
            return int(self._drain.ledger.tally(end_ns).counts.sum())

    @property
    def coverage(self) -> tuple[Coverage, ...]:
        """What kinds of events are seen on this kernel."""
        return self._source.coverage

    def explained(self) -> Explained:
        """Bytes outstanding right now, by allocator; None where not all of its events are seen."""
        seen = kinds_seen(self._source.coverage)
        by_rcu = {CoverageKind.SLAB_SHEAF_FREE, CoverageKind.SLAB_RCU_FREE}
        rcu_missed = not by_rcu.isdisjoint(kinds_missed(self._source.coverage))
        known = explained_by(self.counts().outstanding, mmap.PAGESIZE)
        return Explained(
            slab=known.slab if CoverageKind.SLAB_BULK_FREE in seen and not rcu_missed else None,
            vmalloc=known.vmalloc if {CoverageKind.VMALLOC, CoverageKind.VFREE} <= seen else None,
            percpu=known.percpu if CoverageKind.PERCPU in seen else None,
            pages=known.pages if CoverageKind.PAGES in seen else None,
            rounding=known.rounding,
        )

    def read_contents(self, recording: Recording, suspects: Sequence[JudgedSuspect]) -> ObjectContents:
        """What the confirmed suspects hold now."""
        rows = recording.leaked_rows(suspects)
        objects = rows["object"].tolist()
        words = self._source.read_objects(list(zip(objects, rows["bytes_req"].tolist(), strict=True)))
        return ObjectContents(dict(zip(objects, words, strict=True)), self._source.reads_objects)

    def look_into_sheaves(self) -> None:
        """Remember what sheaves of slab caches point to now, which a scan of now takes for referenced."""
        self._handed_out.append(self._source.handed_out())

    def hidden_in_sheaves(self) -> int:
        """How many objects the last look has found that need not be hidden: see `overlooked.clearable`."""
        last = self._handed_out[-1] if self._handed_out else None
        return 0 if last is None else clearable(self.outstanding(), self.names, last)

    def overlooked(self, recording: Recording, suspects: Sequence[JudgedSuspect]) -> list[str]:
        """What kmemleak may have overlooked of what modules left behind, in words; nothing if it was not asked."""
        if not self._handed_out:
            return []
        read = [look for look in self._handed_out if look is not None]
        return recording.overlooked(suspects, np.concatenate(read) if len(read) == len(self._handed_out) else None)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._source.close()
