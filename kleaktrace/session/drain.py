# SPDX-License-Identifier: GPL-2.0-or-later
"""The drain: one thread that polls a source and enters its events into the ledger."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Batch
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.edge.machine import malloc_tuning
from kleaktrace.errors import BUG_FIX, InternalFault, KleaktraceError
from kleaktrace.session.drain_interval import drain_interval_s
from kleaktrace.session.source import EventSource

_LOG = logging.getLogger(__name__)

_LOSS_S = 0.5
"""Between readings of the loss counters: how sharply a loss window is known."""

_SAMPLING_SHARE = 10
"""Sampling the history takes at most one in so many seconds of the drain's, however much is outstanding."""

_NICENESS = -15
"""Of the drain: it needs little, but at once. What a busy machine allocates in a quarter of a second fills the ring."""

_GIVE_WAY_S, _GIVE_WAY_STEP_S = 0.05, 0.0005
"""So long somebody who waits to look has to begin: on a busy machine, it takes a while until it runs at all."""

_FULL_BATCH = 0.01
"""A ring that is still so full after a poll is polled again at once."""


class Observer(Protocol):
    """Sees what the ledger sees, in the drain's thread."""

    def begin(self, names: KernelNames) -> None:
        """Names of what the batches to come refer to. Called once, before the first."""

    def batch(self, batch: Batch) -> None:
        """A batch that was entered into the ledger."""

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """The ledger as of this time (CLOCK_MONOTONIC); about once a second at first, then less often."""


class Drain:
    """Drains a source from construction until `finish`.

    Its thread owns `ledger`, `history` and `loss`: others look at them only inside `held`, or after `finish`.
    """

    def __init__(self, source: EventSource, observer: Observer | None = None) -> None:
        malloc_tuning.keep_small()
        self.ledger = Ledger()
        self.history = LevelHistory()
        self.loss = Loss()
        self._source = source
        self._observer = observer
        self._next_sample_ns = 0
        self._entered_ns = source.started.time_ns
        """What happened up to then is in the ledger (CLOCK_MONOTONIC)."""
        self._lock = threading.RLock()
        self._lookers: set[int] = set()
        """Threads that wait to look: a lock goes to whoever comes first, and a busy drain always comes back first."""
        self._stopping = threading.Event()
        self._finished = False
        self._failure: BaseException | None = None
        if observer is not None:
            observer.begin(source.names)
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        self._thread.start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is drained meanwhile. Raises what the source did if draining has failed, or `InternalFault`."""
        if isinstance(self._failure, KleaktraceError):
            raise self._failure
        if self._failure is not None:
            raise InternalFault(f"draining the ring failed: {self._failure!r}", BUG_FIX) from self._failure
        self._lookers.add(threading.get_ident())
        with self._lock:
            self._lookers.discard(threading.get_ident())
            yield

    def catch_up(self) -> None:
        """Return when everything that had been reported at the call is in the ledger."""
        if self._finished:
            return
        self._check_loss()
        end = self._source.reported
        while self._source.polled < end:
            with self.held():
                self._drain_once()
        self._check_loss()  # once more: what had no name may have one by now

    def finish(self) -> None:
        """Enter what is reported by now, and end. The source should have been paused. May be called twice."""
        if self._finished:
            return
        self._stopping.set()
        self._source.wake()
        self._thread.join()
        try:
            self.catch_up()
        finally:
            self._finished = True

    def _run(self) -> None:
        _prefer_this_thread()
        try:
            self._drain_until_stopped()
        except BaseException as failure:  # shown by whoever looks next: a dead drain must not pass for a quiet kernel
            self._failure = failure

    def _drain_until_stopped(self) -> None:
        source = self._source
        checked, gave_back = 0.0, time.monotonic()
        looked, polled = time.monotonic(), source.polled
        while not self._stopping.is_set():
            if time.monotonic() - checked > _LOSS_S:
                self._check_loss()
                checked = time.monotonic()
            now = time.monotonic()
            self._give_way()
            more = self._drain_once()
            self._sample()
            if not more:
                if now - gave_back > malloc_tuning.EVERY_S:
                    malloc_tuning.give_back()
                    gave_back = now
                source.wait(drain_interval_s(source.polled - polled, now - looked))
                looked, polled = now, source.polled

    def _give_way(self) -> None:
        """Wait until whoever waits to look has begun, but not for long: meanwhile the ring fills up."""
        until = time.monotonic() + _GIVE_WAY_S
        while self._lookers and time.monotonic() < until:
            time.sleep(_GIVE_WAY_STEP_S)

    def _drain_once(self) -> bool:
        """Enter one batch; whether there is likely more."""
        with self._lock:
            now_ns, reported = self._source.now_ns(), self._source.reported
            backlog = self._source.backlog  # a poll leaves little of it
            batch = self._source.poll()
            self.ledger.apply(batch)
            if batch.size:
                _LOG.debug("%d events; the ring was %.1f %% full", batch.size, 100 * backlog)
            self._entered_ns = now_ns if self._source.polled >= reported else max(self._entered_ns, batch.newest_ns)
            if self._observer is not None:
                self._observer.batch(batch)
        return self._source.backlog > _FULL_BATCH

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
            known = len(self.loss.windows)
            self.loss = self._source.check_loss()
            for window in self.loss.windows[known:]:
                _LOG.info("%d events were lost within %.1f s", window.events, (window.to_ns - window.from_ns) / 1e9)
                self.ledger.note_loss(window)


def _prefer_this_thread() -> None:
    with contextlib.suppress(OSError):  # not everywhere is root allowed to
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
