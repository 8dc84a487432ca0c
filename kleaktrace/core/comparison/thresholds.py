# SPDX-License-Identifier: GPL-2.0-or-later
"""What a comparison is to fail on, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kleaktrace.core.comparison.comparison import Change, Comparison
from kleaktrace.errors import ExitCode


class Outcome(StrEnum):
    """Of what was asked for."""

    PASSED = "passed"
    FAILED = "failed"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class FailOn:
    """What is too much: a leak that is confirmed in the second recording only, or a call stack that surely grows by
    more bytes a second (or operation) than it did in the first."""

    new_leak: bool = False
    growth: float | None = None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What it fails on, and why what was asked cannot be answered, each in words."""

    failures: Sequence[str]
    unanswered: Sequence[str]

    @property
    def outcome(self) -> Outcome:
        """A failure is one, whatever else there may be."""
        if self.failures:
            return Outcome.FAILED
        return Outcome.INCOMPLETE if self.unanswered else Outcome.PASSED

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that says it."""
        return {
            Outcome.PASSED: ExitCode.CLEAN,
            Outcome.FAILED: ExitCode.LEAKS,
            Outcome.INCOMPLETE: ExitCode.INCOMPLETE,
        }[self.outcome]


def conclude(comparison: Comparison, fail_on: FailOn) -> Conclusion:
    """Hold a comparison against what it is to fail on; if that is nothing, it is only asked what has changed."""
    failures, unanswered = [], []
    if fail_on.new_leak:
        leaks = sum(change.is_new_leak for change in comparison.changes)
        failures += [f"new-leak: {_stacks(leaks)}"] if leaks else []
        unanswered += _leaks_unknown(comparison)
    if fail_on.growth is not None:
        growing = sum(change.bytes_per_unit.low > fail_on.growth for change in comparison.changes)
        failures += [f"growth={fail_on.growth:g}: {_stacks(growing)}"] if growing else []
        unanswered += _hidden([one for one in comparison.hidden if one.bytes_per_unit.low > fail_on.growth])
        unanswered += comparison.not_comparable
    elif not fail_on.new_leak:
        unanswered += _hidden(comparison.hidden)
    return Conclusion(failures, unanswered)


def _leaks_unknown(comparison: Comparison) -> list[str]:
    """Why leaks may have gone unnoticed that were not there before."""
    unknown = [f"AFTER: {gap}" for gap in comparison.after.gaps]
    if comparison.undecided:
        unknown.append(
            f"AFTER: suspects of {_stacks(len(comparison.undecided))} are undecided, and were none in BEFORE"
        )
    if comparison.nameless_leaks:
        unknown.append(
            f"AFTER: {comparison.nameless_leaks:,} leaked objects have no call stack: they may be new or not"
        )
    return unknown


def _hidden(changes: Sequence[Change]) -> list[str]:
    some = [change for change in changes if not change.kept]
    return [f"{_stacks(len(some))} would be told apart if no events were lost"] if some else []


def _stacks(count: int) -> str:
    return f"{count:,} call stack{'' if count == 1 else 's'}"
