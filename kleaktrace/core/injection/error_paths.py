# SPDX-License-Identifier: GPL-2.0-or-later
"""What each failing allocation left behind: suspects go to the run in which they were allocated.

A suspect is blamed on the failure of its run only if the runs in which nothing failed left no suspect of the same call
stack: what those leave is left without any failure. Nor is blamed what others allocated meanwhile, who have nothing to
do with what failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kleaktrace.core.events.records import Context
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.injected_runs import FailedAllocation, InjectedRun, RunEnd, Walk
from kleaktrace.core.injection.failed_stacks import modules_of


class PathOutcome(StrEnum):
    """What came of an error path."""

    CLEAN = "clean"
    LEAKS = "leaks"
    CRASH = "crash"
    HANG = "hang"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run, and what is blamed on what failed in it."""

    run: InjectedRun
    suspects: tuple[JudgedSuspect, ...]

    @property
    def confirmed(self) -> list[JudgedSuspect]:
        """The leaked ones of these."""
        return [suspect for suspect in self.suspects if suspect.verdict is Verdict.CONFIRMED]

    @property
    def outcome(self) -> PathOutcome:
        """The worst that came of it."""
        if self.run.ended is RunEnd.CRASHED:
            return PathOutcome.CRASH
        if self.run.ended in (RunEnd.HUNG, RunEnd.STUCK):
            return PathOutcome.HANG
        if self.confirmed:
            return PathOutcome.LEAKS
        unexplained = any(s.verdict is Verdict.UNDECIDED and s.counts_against_clean for s in self.suspects)
        if unexplained or self.run.left_unfit or self.run.ended is RunEnd.INTERRUPTED:
            return PathOutcome.UNDECIDED
        return PathOutcome.CLEAN


@dataclass(frozen=True, slots=True)
class ErrorPath:
    """The runs in which one call failed: of what it asked of the allocators, each has failed once.

    An allocator may ask others for several things on behalf of one call, as vmalloc does.
    """

    failed: FailedAllocation
    results: tuple[RunResult, ...]

    @property
    def outcome(self) -> PathOutcome:
        """The worst of them."""
        return _worst(self.results)

    @property
    def suspects(self) -> list[JudgedSuspect]:
        """What is blamed on it."""
        return [suspect for result in self.results for suspect in result.suspects]

    @property
    def confirmed(self) -> list[JudgedSuspect]:
        """What leaks in one run, the worst of them: they all do the same."""
        return max((result.confirmed for result in self.results), key=len)

    @property
    def numbers(self) -> list[int]:
        """Of the runs."""
        return [result.run.number for result in self.results]

    @property
    def said(self) -> list[str]:
        """What the kernel said in these runs."""
        return list(dict.fromkeys(line for result in self.results for line in result.run.said))


_WORST_FIRST = (
    *(PathOutcome.CRASH, PathOutcome.HANG, PathOutcome.LEAKS, PathOutcome.UNDECIDED),
    PathOutcome.CLEAN,
)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who is to blame for each suspect of the window.

    results: each run with what is blamed on its failure; runs in which nothing failed have none. without_failure: what
    such runs left, and what others left of the same call stacks. elsewhere: what was allocated in no run, or by others.
    """

    results: tuple[RunResult, ...]
    without_failure: tuple[JudgedSuspect, ...]
    elsewhere: tuple[JudgedSuspect, ...]

    def outcome_of(self, run: InjectedRun) -> PathOutcome:
        """What came of what failed in a run: in it, or in those that did the same again."""
        return _worst([result for result in self.results if result.run is run or _is_same(result.run, run)])

    @property
    def paths(self) -> list[ErrorPath]:
        """The results of what failed by call stack; the worst first, then in the order in which they failed."""
        found: dict[tuple[str, ...], list[RunResult]] = {}
        for result in self.results:
            if result.run.failed is not None:
                found.setdefault(result.run.failed.stack, []).append(result)
        paths = [
            ErrorPath(results[0].run.failed, tuple(results)) for results in found.values() if results[0].run.failed
        ]
        return sorted(paths, key=lambda path: _WORST_FIRST.index(path.outcome))


def attribute(walk: Walk, suspects: Sequence[JudgedSuspect], now_ns: int) -> Attribution:
    """Give each suspect to the run in which it was allocated.

    now_ns: the time (CLOCK_MONOTONIC) at which the suspects had their ages. Those that are dismissed are nobody's.
    """
    by_run: dict[int, list[JudgedSuspect]] = {}
    elsewhere: list[JudgedSuspect] = []
    for suspect in suspects:
        if suspect.verdict is Verdict.DISMISSED:
            continue
        run = walk.run_at(now_ns - round(suspect.age_s * 1e9)) if suspect.in_window else None
        if run is None:
            elsewhere.append(suspect)
        else:
            by_run.setdefault(run.number, []).append(suspect)
    of_plain = [suspect for run in walk.runs if run.is_plain for suspect in by_run.get(run.number, ())]
    results: list[RunResult] = []
    without: list[JudgedSuspect] = []
    for run in walk.runs:
        blamed: list[JudgedSuspect] = []
        for suspect in by_run.get(run.number, ()):
            if run.failed is not None and not _concerns(suspect, run.failed):
                elsewhere.append(suspect)
            elif run.failed is None or any(_is_alike(suspect, other) for other in of_plain):
                without.append(suspect)
            else:
                blamed.append(suspect)
        results.append(RunResult(run, tuple(blamed)))
    return Attribution(tuple(results), tuple(without), tuple(elsewhere))


def _concerns(suspect: JudgedSuspect, failed: FailedAllocation) -> bool:
    """Whether who allocated it has to do with what failed: the same module, or the same program."""
    if not failed.stack:  # nothing is known of it
        return True
    same_module = modules_of(suspect.stack) & modules_of(failed.stack)
    return bool(same_module) or (suspect.context is Context.TASK and suspect.comm == failed.comm)


def _worst(results: Sequence[RunResult]) -> PathOutcome:
    return min((result.outcome for result in results), key=_WORST_FIRST.index)


def _is_same(run: InjectedRun, other: InjectedRun) -> bool:
    """Whether the same allocation failed in both."""
    if run.failed is None or other.failed is None:
        return False
    return bool(run.failed.key) and run.failed.key == other.failed.key


def _is_alike(suspect: JudgedSuspect, plain: JudgedSuspect) -> bool:
    """Whether a run in which nothing failed left the same, and that is as bad."""
    as_bad = plain.verdict is Verdict.CONFIRMED or suspect.verdict is Verdict.UNDECIDED
    return as_bad and suspect.stack == plain.stack
