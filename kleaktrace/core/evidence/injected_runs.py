# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of a command in each of which one allocation fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Asked(StrEnum):
    """Whom the allocation that failed was asked of."""

    SLAB = "slab"
    PAGES = "pages"


@dataclass(frozen=True, slots=True)
class FailedAllocation:
    """An allocation that was made to fail, or that could be.

    stack: frames as text, innermost first, from the code that called the allocator on. bytes: what it asked for, as a
    slab cache or pages have it. key: of the call stack, the same across boots of this kernel; 0: not known.
    """

    time_ns: int
    stack: tuple[str, ...]
    bytes: int
    asked: Asked = Asked.SLAB
    key: int = 0
    comm: str = ""
    pid: int = 0


class RunEnd(StrEnum):
    """How a run ended."""

    EXITED = "exited"
    HUNG = "hung"
    """Its time was up, and it was killed."""
    STUCK = "stuck"
    """It can't even be killed."""
    CRASHED = "crashed"
    """The kernel said that it has a bug: an Oops, or worse."""
    INTERRUPTED = "interrupted"
    """We were asked to end."""


@dataclass(frozen=True, slots=True)
class InjectedRun:
    """One run. Times are ns, CLOCK_MONOTONIC.

    number: from 0, the plain run before all others. failed: what failed in it; None: nothing did. status: of the
    command, a signal's number negative. said: what the kernel's log has of it that tells of a bug, or a warning.
    left_unfit: the next run could not start from what it left. again: it only repeats what an earlier run did.
    """

    number: int
    start_ns: int
    end_ns: int
    failed: FailedAllocation | None
    status: int
    ended: RunEnd = RunEnd.EXITED
    said: tuple[str, ...] = ()
    left_unfit: bool = False
    again: bool = False

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def is_plain(self) -> bool:
        """Whether nothing failed in it, and it ended well."""
        return self.failed is None and self.ended is RunEnd.EXITED and not self.status


@dataclass(frozen=True, slots=True)
class Walk:
    """All runs, in their order, and how they came about.

    means: by what allocations were made to fail. planned: how many call stacks the plain run showed that could fail.
    stopped: why it ended before all had failed; empty: it did not. end_ns: when the last run was over.
    """

    means: str
    runs: Sequence[InjectedRun]
    planned: int
    end_ns: int
    stopped: str = ""

    def run_at(self, time_ns: int) -> InjectedRun | None:
        """The run in which something happened: from its start to the next one's; None: before all, or after."""
        if time_ns >= self.end_ns:
            return None
        return next((run for run in reversed(self.runs) if run.start_ns <= time_ns), None)

    @property
    def by_number(self) -> bool:
        """Whether allocations failed by number, whoever asked: call stacks have no keys then."""
        return any(run.failed is not None and not run.failed.key for run in self.runs)

    @property
    def failures(self) -> list[InjectedRun]:
        """The runs in which something failed for the first time."""
        return [run for run in self.runs if run.failed is not None and not run.again]

    def failed_frames(self) -> set[str]:
        """All frames of the call stacks that failed."""
        return {frame for run in self.failures if run.failed for frame in run.failed.stack}

    @property
    def plain_s(self) -> float:
        """How long a run takes in which nothing fails: the shortest of them; 0: there was none."""
        return min((run.seconds for run in self.runs if run.is_plain), default=0.0)

    @property
    def per_failure_s(self) -> float | None:
        """How long it takes to have one allocation fail, all in all; None: none failed."""
        spent = [
            after.start_ns - run.start_ns
            for run, after in pairwise(self.runs)
            if run.failed is not None and not run.again
        ]
        return sum(spent) / len(spent) / 1e9 if spent else None
