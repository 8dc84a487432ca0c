# SPDX-License-Identifier: GPL-2.0-or-later
"""How much was outstanding when: a bounded history of every stack, for growth rates with an interval."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import F64, U64
from kleaktrace.core.growth.intervals import Interval, slope_interval, start_up
from kleaktrace.core.ledger.stack_counters import StackSnapshot

SAMPLE_NS = 1_000_000_000
"""How far samples are apart at first."""

_MOST_SAMPLES = 128
_FEWEST_SAMPLES = 16
_BUDGET_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Level:
    """One sample: outstanding bytes by stack number. A stack that came later has no place, and had nothing."""

    time_ns: int
    bytes: U64


@dataclass(frozen=True, slots=True)
class StartUp:
    """What came and went at first and then no more, so that it is no lasting growth."""

    seconds: float
    bytes: int
    """By which more was outstanding at its end."""


@dataclass(frozen=True, slots=True)
class LevelSeries:
    """How much some stacks together had outstanding (bytes) at equally distant times, `step_s` apart."""

    step_s: float
    levels: F64

    @property
    def interval(self) -> Interval:
        """By how many bytes a second it grows, with 95 % confidence; what came only at first is left out."""
        if self.levels.size < 2:
            return Interval(0.0, -np.inf, np.inf)
        growth = slope_interval(self.levels)
        return Interval(growth.estimate / self.step_s, growth.low / self.step_s, growth.high / self.step_s)

    @property
    def start_up(self) -> StartUp:
        """What `interval` leaves out."""
        if self.levels.size < 2:
            return StartUp(0.0, 0)
        steps = start_up(self.levels)
        return StartUp(steps * self.step_s, round(self.levels[steps] - self.levels[0]))


class LevelHistory:
    """Outstanding bytes of every stack at up to 128 moments since the first sample.

    When there are too many samples every second one is forgotten, and from then on they are taken half as often: the
    history always covers everything, evenly. Memory: 8 bytes for a stack and sample, at most 32 MiB; from
    32,768 stacks on that means fewer samples, down to 16 (128 bytes a stack) from 262,144 stacks on.
    """

    def __init__(self, every_ns: int = SAMPLE_NS) -> None:
        self._every_ns = every_ns
        self._times: list[int] = []
        self._levels: list[U64] = []  # a stack that came later has no place in an earlier sample, and had nothing
        self._stacks: U64 = np.zeros(0, np.uint64)

    @classmethod
    def restored(cls, every_ns: int, samples: Sequence[Level], stacks: U64) -> LevelHistory:
        """One that holds these samples, `every_ns` apart, of these stacks."""
        made = cls(every_ns)
        made._times, made._levels = [one.time_ns for one in samples], [one.bytes for one in samples]
        made._stacks = stacks
        return made

    @property
    def every_ns(self) -> int:
        """How far samples are apart by now."""
        return self._every_ns

    def since(self, time_ns: int) -> list[Level]:
        """The samples that are kept of those taken later than this."""
        first = bisect_right(self._times, time_ns)
        return [Level(*one) for one in zip(self._times[first:], self._levels[first:], strict=True)]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._stacks.nbytes + sum(level.nbytes for level in self._levels)

    @property
    def times_ns(self) -> tuple[int, ...]:
        """When the samples that are kept were taken."""
        return tuple(self._times)

    def due(self, time_ns: int) -> bool:
        """Whether `sample` would keep a sample of this time; if not, there is no need for a snapshot."""
        return not self._times or time_ns >= self._times[-1] + self._every_ns

    def sample(self, time_ns: int, snapshot: StackSnapshot) -> None:
        """Remember what is outstanding. Snapshots are of one ledger, times (CLOCK_MONOTONIC) ascend."""
        if not self.due(time_ns):
            return
        self._times.append(time_ns)
        self._levels.append(snapshot.outstanding_bytes)
        self._stacks = snapshot.stacks
        while len(self._times) > self._room():
            # The number is odd then, or becomes so: the oldest and the newest stay.
            self._times, self._levels = self._times[::2], self._levels[::2]
            self._every_ns *= 2

    def _room(self) -> int:
        fitting = _BUDGET_BYTES // (8 * max(self._stacks.size, 1))
        return min(max(fitting, _FEWEST_SAMPLES), _MOST_SAMPLES)

    def interval(self, stacks: Iterable[int], since_ns: int = 0) -> Interval:
        """Return by how many bytes a second the outstanding set of these stacks together grows, with 95 % confidence.

        Only samples from `since_ns` on count; fewer than nine are infinitely uncertain. What was outstanding before
        tracing began is not in the ledger, and its frees are not either: objects that live longer than about a sixth
        of the time looked at make growth of what is only being replaced.
        """
        return self.series(stacks, since_ns).interval

    def series(self, stacks: Iterable[int], since_ns: int = 0) -> LevelSeries:
        """Return what these stacks together had outstanding, from the samples since `since_ns` on."""
        start = int(np.searchsorted(np.array(self._times, np.int64), since_ns))
        times = np.array(self._times[start:], np.int64)
        if times.size < 2:
            return LevelSeries(0.0, np.zeros(0))
        seconds: F64 = (times - times[0]) / 1e9
        even = np.linspace(0.0, seconds[-1], seconds.size)
        return LevelSeries(float(even[1]), np.interp(even, seconds, self._sums(stacks, start)))

    def levels(self, stacks: U64) -> F64:
        """Outstanding bytes of each of these stacks (columns, as asked) at each sample (rows)."""
        found = np.zeros((len(self._levels), stacks.size))
        if not self._stacks.size:
            return found
        order = np.argsort(self._stacks, kind="stable")
        ascending = self._stacks[order]
        places = np.minimum(np.searchsorted(ascending, stacks), ascending.size - 1)
        at = np.where(ascending[places] == stacks, order[places], ascending.size)
        for row, level in zip(found, self._levels, strict=True):
            there = at < level.size
            row[there] = level[at[there]]
        return found

    def all_levels(self) -> F64:
        """Outstanding bytes of all stacks together at each sample."""
        return np.array([float(level.sum()) for level in self._levels])

    def _sums(self, stacks: Iterable[int], start: int) -> F64:
        at = np.flatnonzero(np.isin(self._stacks, np.array(list(stacks), np.uint64)))
        return np.array([float(level[at[: np.searchsorted(at, level.size)]].sum()) for level in self._levels[start:]])
