"""A tracing session: one thread that drains the ring into the ledger, and safe looks at the result from outside."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np

from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.coverage import Coverage, Loss
from kleaktrace.core.events.records import Batch
from kleaktrace.core.evidence.judged import Evidence, JudgedSuspect, Verdict
from kleaktrace.core.evidence.rounds import RoundSeries, load_cycles
from kleaktrace.core.grouping.implied_frees import implied_from
from kleaktrace.core.grouping.outstanding_groups import group_tally
from kleaktrace.core.growth.detection import growing, growing_within
from kleaktrace.core.growth.growing_stacks import (
    GrowingStack,
    SameStacks,
    bursts,
    described,
    growth_evidence,
    module_births,
)
from kleaktrace.core.growth.level_history import GrowthWatch
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.leaked_objects.anatomy import Anatomy, anatomy, leaked_rows, overwritten_words
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.machine.unexplained_memory import Explained, explained_by
from kleaktrace.core.repetition.repeated_stacks import RepeatedStacks
from kleaktrace.core.report import CommandResult, Findings, Kernel, Report, Window, outcome
from kleaktrace.core.verdicts.rules import judge
from kleaktrace.edge.machine import malloc_tuning
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.errors import EvidenceLost
from kleaktrace.session.drain_interval import rest_s

_LOSS_S = 0.5
"""Between readings of the loss counters: how sharply a loss window is known."""


_SAMPLING_SHARE = 10
"""Sampling the history takes at most one in so many seconds of the drain's, however much is outstanding."""


_NICENESS = -15
"""Of the drain: it needs little, but at once. What a busy machine allocates in a quarter of a second fills the ring."""


def _prefer_this_thread() -> None:
    with contextlib.suppress(OSError):  # not everywhere is root allowed to
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class Observer(Protocol):
    """Sees what the ledger sees, in the thread that drains the ring."""

    def batch(self, batch: Batch) -> None:
        """A batch that was entered into the ledger."""

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """The ledger as of this time (CLOCK_MONOTONIC); about once a second at first, then less often."""


class Session:
    """Tracing from construction until `stop`. A context manager: leaving it detaches the probes."""

    def __init__(
        self, filters: Filters | None = None, observer: Observer | None = None, exact_stacks: bool = False
    ) -> None:
        malloc_tuning.keep_small()
        self.tracer = Tracer(filters, exact_stacks=exact_stacks)
        self.ledger = Ledger()
        self.history = GrowthWatch()
        self._observer = observer
        self._next_sample_ns = 0
        self._same = SameStacks(self.tracer.names.stacks.get)
        self._readings: Sequence[Sequence[Suspect]] = ()
        self._loss = Loss()
        self._levelled_off: frozenset[int] = frozenset()  # stacks of which the rounds say that they don't grow
        self._contents: tuple[Coverage, ...] = ()  # whether what objects hold can be seen, once somebody asked
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._start = self.tracer.started
        self._entered_ns = self._start.time_ns
        """What happened up to then is in the ledger (CLOCK_MONOTONIC)."""
        self._started = datetime.now(UTC) - timedelta(microseconds=(time.monotonic_ns() - self._start.time_ns) / 1000)
        self._end: Moment | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._drain, name="drain", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        _prefer_this_thread()
        try:
            checked, gave_back = 0.0, time.monotonic()
            looked, polled = time.monotonic(), self.tracer.polled
            while not self._stopping.is_set():
                if time.monotonic() - checked > _LOSS_S:
                    self._check_loss()
                    checked = time.monotonic()
                now = time.monotonic()
                more = self._drain_once()
                self._sample()
                if not more:
                    if now - gave_back > malloc_tuning.EVERY_S:
                        malloc_tuning.give_back()
                        gave_back = now
                    self.tracer.wait(rest_s(self.tracer.polled - polled, now - looked))
                    looked, polled = now, self.tracer.polled
        except BaseException as failure:  # shown by whoever looks next: a dead drain must not pass for a quiet kernel
            self._failure = failure

    def _drain_once(self) -> bool:
        """Enter one batch; whether there is likely more."""
        with self._lock:
            now_ns, reported = time.monotonic_ns(), self.tracer.reported
            batch = self.tracer.poll()
            self.ledger.apply(batch)
            self._entered_ns = now_ns if self.tracer.polled >= reported else max(self._entered_ns, batch.newest_ns)
            if self._observer is not None:
                self._observer.batch(batch)
        return self.tracer.backlog > 0.01

    def _sample(self) -> None:
        """Add to the history of what is outstanding, when it is time."""
        now_ns = self._entered_ns  # and not later: we may have slept since, while others allocated
        if now_ns < self._next_sample_ns or not self.history.due(now_ns):
            return
        begun_ns = time.thread_time_ns()  # that others are busy is no reason to know less
        with self._lock:
            self.history.sample(now_ns, self.ledger.snapshot())
            if self._observer is not None:
                self._observer.sample(now_ns, self.ledger)
        self._next_sample_ns = now_ns + _SAMPLING_SHARE * (time.thread_time_ns() - begun_ns)

    def _check_loss(self) -> None:
        with self._lock:
            known = len(self._loss.windows)
            self._loss = self.tracer.check_loss()
            for window in self._loss.windows[known:]:
                self.ledger.note_loss(window)

    @contextmanager
    def frozen(self) -> Iterator[Session]:
        """Nothing is drained while the caller looks. Raises `EvidenceLost` if draining has failed."""
        if self._failure is not None:
            raise EvidenceLost(f"draining the ring failed: {self._failure!r}", "this is a bug: please report it")
        with self._lock:
            yield self

    @property
    def loss(self) -> Loss:
        """What was lost so far."""
        return self._loss

    @property
    def seconds(self) -> float:
        """How long tracing has gone on, or went on if it has stopped."""
        return (self.now_ns - self._start.time_ns) / 1e9

    @property
    def now_ns(self) -> int:
        """The time (CLOCK_MONOTONIC) up to which events can be in the ledger."""
        return self._end.time_ns if self._end else time.monotonic_ns()

    def catch_up(self) -> None:
        """Return when everything that had happened at the call is in the ledger."""
        if self._closed:
            return
        self._check_loss()
        end = self.tracer.reported
        while self.tracer.polled < end:
            with self.frozen():
                self._drain_once()
        self._check_loss()  # once more: what had no name may have one by now

    def stop(self) -> None:
        """Detach the probes, and enter what they had reported by then. May be called twice."""
        if self._end is None:
            self._end = self.tracer.moment()
            self.tracer.pause()
            self._stopping.set()
            self.tracer.wake()
            self._thread.join()
            try:
                self.catch_up()
            finally:
                self._closed = True
                self.tracer.close()

    def clock(self) -> JiffiesClock:
        """Jiffies against CLOCK_MONOTONIC, from the start until now."""
        return JiffiesClock(self._start, self._end or self.tracer.moment())

    def judge(
        self,
        readings: Sequence[Sequence[Suspect]],
        tracked: Callable[[int, int], bool | None] | None = None,
        watched_s: float = 0.0,
        series: Sequence[RoundSeries] = (),
        alive: frozenset[int] = frozenset(),
    ) -> list[JudgedSuspect]:
        """Verdicts on all suspects of the readings, what unloaded modules left, and what rounds left behind."""
        self._readings = readings
        self.catch_up()
        with self.frozen():
            evidence = Evidence(
                ledger=self.ledger,
                names=self.tracer.names,
                clock=self.clock(),
                loss=self._loss,
                coverage=self.tracer.coverage,
                readings=readings,
                tracked=tracked,
                watched_s=watched_s,
                series=series,
                alive=alive,
            )
            repeated = RepeatedStacks(evidence)
            self._levelled_off = repeated.levelled_off
            return judge(evidence, repeated)

    def left_behind(self, by_loaded_too: bool = False) -> int:
        """How many allocations are outstanding, right now, that went through modules which are gone, or through any."""
        self.catch_up()
        with self.frozen():
            names = self.tracer.names
            gone = names.symbols.unloaded
            if not gone and not by_loaded_too:
                return 0
            books = self.ledger.snapshot()
            some = books.outstanding > 0
            modules = [names.stacks.get(key).modules for key in books.stacks[some].tolist()]
            through = [bool(own if by_loaded_too else own & gone) for own in modules]
            return int(books.outstanding[some][np.array(through, np.bool_)].sum())

    def explained(self) -> Explained:
        """Bytes outstanding right now, by allocator; None where not all of its events are seen."""
        self.catch_up()
        with self.frozen():
            seen = {coverage.kind for coverage in self.tracer.coverage if coverage.source}
            known = explained_by(self.ledger.tally())
        return Explained(
            slab=known.slab if "slab-bulk-free" in seen else None,
            vmalloc=known.vmalloc if {"vmalloc", "vfree"} <= seen else None,
            percpu=known.percpu if "percpu" in seen else None,
        )

    def anatomy(self, suspects: Sequence[JudgedSuspect], series: Sequence[RoundSeries]) -> Anatomy:
        """What the confirmed suspects are: causes and what hangs on them, and what they hold now."""
        with self.frozen():
            self._contents = (self.tracer.reads_objects,)
            names = self.tracer.names
            rows = leaked_rows(self.ledger, suspects, names)
            sizes = rows["bytes_req"].tolist()
            words = self.tracer.read_objects(list(zip(rows["object"].tolist(), sizes, strict=True)))
            overwritten = overwritten_words(self.ledger, series, self._start.time_ns, self.now_ns)
            return anatomy(rows, words, names, names.symbols.function_at, overwritten)

    def load_cycles(self, end_ns: int) -> list[RoundSeries]:
        """The modules that were loaded again and again until then (CLOCK_MONOTONIC), as rounds."""
        self.catch_up()
        with self.frozen():
            symbols = self.tracer.names.symbols
            return [
                load_cycles(name, symbols.loads(name), symbols.unloads(name), end_ns)
                for name in sorted(symbols.unloaded)
                if len(symbols.loads(name)) > 1
            ]

    def growing(
        self,
        suspects: Sequence[JudgedSuspect] = (),
        windows: Sequence[tuple[int, int]] = (),
        alive: frozenset[int] = frozenset(),
    ) -> list[GrowingStack]:
        """The stacks that keep growing, fastest first. `suspects` are those judged, if kmemleak was asked.

        windows: when to look for births, [from, to) in ns, CLOCK_MONOTONIC; none: from the start until now. alive:
        processes that may hold what they allocated.
        """
        with self.frozen():
            evidence = growth_evidence(self.ledger, self._same, self._start.time_ns, self.now_ns)
        found = growing_within(evidence, windows) if windows else growing(evidence)
        if windows:
            with self.frozen():
                births = module_births(self.ledger, self.tracer.names)
                sudden = bursts(evidence, births, self.tracer.names, self._same, windows)
            found += [one for one in sudden if one.stack not in {known.stack for known in found}]
        if not found:
            return []
        listed = [s.stack for s in suspects if s.source == "kmemleak"] if self._readings else None
        with self.frozen():
            stacks = {key for one in found for key in self._same.like(one.stack).tolist()}
            convicted = {s.stack for s in suspects if s.verdict is Verdict.CONFIRMED and s.rounds is not None}
            names = self.tracer.names.stacks
            known = convicted | {tuple(names.get(key).lines()) for key in self._levelled_off}
            found = [one for one in found if tuple(names.get(one.stack).lines()) not in known]
            return described(found, self._same, self.ledger.outstanding(stacks), self.tracer.names, listed, alive)

    def report(
        self,
        suspects: Sequence[JudgedSuspect] = (),
        gaps: Sequence[str] = (),
        command: CommandResult | None = None,
        windows: Sequence[tuple[int, int]] = (),
        findings: Findings | None = None,
    ) -> Report:
        """Everything known by now. `gaps` are reasons why the evidence is incomplete; loss is one by itself.

        windows: when to look for growth, see `growing`. findings: what else was found out about it.
        """
        findings = findings or Findings()
        self.catch_up()
        grown = self.growing(suspects, windows, findings.alive)
        unexplained = [stack for stack in grown if not stack.kept]
        with self.frozen():
            if self._loss.events:
                gaps = [*gaps, f"{self._loss.events} events were lost"]
            if self._loss.names:
                gaps = [*gaps, f"{self._loss.names} names of stacks, caches or modules were lost"]
            uname = os.uname()
            return Report(
                kernel=Kernel(uname.release, uname.machine),
                window=Window(self._started, self._start.time_ns, self.seconds),
                coverage=(*self.tracer.coverage, *self._contents),
                loss=self._loss,
                totals=self.ledger.totals(),
                suspects=suspects,
                outstanding=group_tally(self.ledger.tally(), self.tracer.names),
                outcome=outcome(suspects, [*gaps, *map(str, findings.missing)], unexplained),
                findings=findings,
                implied_from=implied_from(self.ledger, self.tracer.names),
                gaps=gaps,
                context_source=self.tracer.plan.context_source,
                command=command,
                growing=unexplained,
                growing_kept=[stack for stack in grown if stack.kept],
                stack_check=self.tracer.stack_check,
            )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
