# SPDX-License-Identifier: GPL-2.0-or-later
"""A session played again: the source that a capture of every event feeds."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.clock import Moment
from kleaktrace.core.events.coverage import Coverage, CoverageKind, StackCheck
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Kernel
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.edge.capture.capture_reader import captured_batches, captured_times, read_capture
from kleaktrace.errors import UsageError

_STEP_S = 0.05
"""At most so long until it is looked whether more has happened meanwhile."""

_MORE = 1.0
"""Of the ring: as full as it can be."""


class ReplaySource:
    """An `EventSource` of what happened once, at `speed` times the pace. Its clock is that of the capture.

    Batches come as they came to the drain; all names are known from the start.
    """

    def __init__(self, recording: Recording, batches: Iterator[Batch], times_ns: Sequence[int], speed: float) -> None:
        """Begin. times_ns: of each of the batches, when its last event was."""
        self.recorded = recording
        """What the capture says that it came to."""
        self._batches = batches
        self._times_ns = list(accumulate(times_ns, max))
        self._speed = speed
        self._began_ns = time.monotonic_ns()
        self._paused_ns: int | None = None
        self._awake = threading.Event()
        self.polled = 0

    @property
    def kernel(self) -> Kernel:
        """The one that was traced."""
        return self.recorded.kernel

    @property
    def processors(self) -> int:
        """Of the one that was traced."""
        return self.recorded.processors

    @property
    def started(self) -> Moment:
        """When the capture begins."""
        return self.recorded.clock.start

    @property
    def names(self) -> KernelNames:
        """All that the capture has."""
        return self.recorded.names

    @property
    def coverage(self) -> tuple[Coverage, ...]:
        """What was covered."""
        return tuple(self.recorded.coverage)

    @property
    def context_source(self) -> str:
        """As it was."""
        return self.recorded.context_source

    @property
    def stack_check(self) -> StackCheck:
        """As it was in the end."""
        return self.recorded.stack_check

    @property
    def reads_objects(self) -> Coverage:
        """What objects hold can't be read any more."""
        return Coverage(CoverageKind.OBJECT_CONTENTS, None, "what objects held is not played again")

    @property
    def lasts_s(self) -> float:
        """So long it takes."""
        return self.recorded.seconds / self._speed

    @property
    def over(self) -> bool:
        """Whether all that is in the capture has happened by now."""
        return self.now_ns() >= self.recorded.clock.end.time_ns

    @property
    def backlog(self) -> float:
        """Full while something has happened that was not polled."""
        return _MORE if self.reported > self.polled else 0.0

    @property
    def reported(self) -> int:
        """How many batches there were by now."""
        return len(self._times_ns) if self.over else bisect_right(self._times_ns, self.now_ns())

    def now_ns(self) -> int:
        """The time that it is in the capture; it stays at its end."""
        start, end = self.recorded.clock.start.time_ns, self.recorded.clock.end.time_ns
        real_ns = (self._paused_ns or time.monotonic_ns()) - self._began_ns
        return min(start + round(real_ns * self._speed), end)

    def poll(self) -> Batch:
        """The next batch, if it has happened."""
        nothing = Batch(np.zeros(0, ALLOCATION), np.zeros(0, FREE))
        if self.reported == self.polled:
            return nothing
        batch = next(self._batches, None)
        if batch is None:  # fewer than were stated: the file breaks off
            self._times_ns = self._times_ns[: self.polled]
            return nothing
        self.polled += 1
        return batch

    def wait(self, seconds: float) -> None:
        """Return after so long, or sooner."""
        self._awake.wait(min(seconds, _STEP_S))

    def wake(self) -> None:
        """End all waiting."""
        self._awake.set()

    def pause(self) -> None:
        """Let nothing more happen."""
        self._paused_ns = self._paused_ns or time.monotonic_ns()

    def moment(self) -> Moment:
        """Now, by the clocks of the capture."""
        clock, now_ns = self.recorded.clock, self.now_ns()
        if now_ns == clock.end.time_ns:
            return clock.end
        return Moment(now_ns, clock.start.jiffies + round((now_ns - clock.start.time_ns) * clock.hz / 1e9))

    def check_loss(self) -> Loss:
        """What was lost by now; of what has no time, all of it in the end."""
        if self.over:
            return self.recorded.loss
        windows = tuple(window for window in self.recorded.loss.windows if window.to_ns <= self.now_ns())
        return Loss(sum(window.events for window in windows), windows=windows)

    def read_objects(self, objects: Sequence[tuple[int, int]]) -> list[U64]:
        """Nothing is known."""
        return [np.zeros(0, np.uint64) for _ in objects]

    def handed_out(self) -> U64 | None:
        """Nobody can tell any more."""
        return None

    def free_before(self, address: int) -> int:
        """Nobody can tell."""
        raise OSError("a capture does not tell which ranges of addresses were free")

    def close(self) -> None:
        """There is nothing to let go of."""


def replay(path: Path, speed: float) -> ReplaySource:
    """The source that a capture feeds. Raises `UsageError` if it has not kept every event."""
    recording, times_ns = read_capture(path), captured_times(path)
    if not times_ns and recording.ledger.totals().allocations:
        raise UsageError(f"{path} has not kept every event", "record with --events what is to be played again")
    return ReplaySource(recording, captured_batches(path), times_ns, speed)
