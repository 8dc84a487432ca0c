# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of making allocations fail: a session's report, and which failure is to blame for what of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.injected_runs import FailedAllocation, RunEnd, Walk
from kleaktrace.core.injection.error_paths import Attribution, ErrorPath, PathOutcome, attribute
from kleaktrace.core.report import Report
from kleaktrace.core.symbols.call_stacks import requester_line


@dataclass(frozen=True)
class InjectionReport:
    """A walk, and the report of the session in which it was made; its gaps are those of the walk, too (`walk_gaps`)."""

    report: Report
    walk: Walk

    @cached_property
    def attribution(self) -> Attribution:
        """Who is to blame for each suspect."""
        return attribute(self.walk, self.report.suspects, self.report.now_ns)

    @cached_property
    def paths(self) -> list[ErrorPath]:
        """The error paths, the worst first."""
        return self.attribution.paths

    def of(self, outcome: PathOutcome) -> list[ErrorPath]:
        """The error paths that came out so."""
        return [path for path in self.paths if path.outcome is outcome]

    @property
    def leaked_without_failure(self) -> Sequence[JudgedSuspect]:
        """What is confirmed, and no failure is to blame for."""
        others = (*self.attribution.without_failure, *self.attribution.elsewhere)
        return [suspect for suspect in others if suspect.verdict is Verdict.CONFIRMED]


def walk_gaps(walk: Walk) -> list[str]:
    """Why the evidence is incomplete, as far as the runs tell, line by line."""
    gaps = [f"it ended {walk.stopped}"] if walk.stopped else []
    for words, ended in (
        ("the kernel has a bug", (RunEnd.CRASHED,)),
        ("the command hangs", (RunEnd.HUNG, RunEnd.STUCK)),
    ):
        runs = [str(run.number) for run in walk.runs if run.ended in ended]
        if runs:
            gaps.append(f"{words} when an allocation fails, in run {', '.join(runs)}")
    return gaps


_FEW = 5


def by_number_gaps(asked: Sequence[FailedAllocation], missed: Sequence[FailedAllocation]) -> list[str]:
    """Why the evidence is incomplete where allocations fail by number: what comes of some calls' failing is not known.

    asked: what plain runs have asked for through modules. missed: of this, what never failed.
    """
    if not asked:
        return [
            "no call of a module was to fail: the command itself asks for nothing there; what it starts is not reached"
        ]
    if not missed:
        return []
    calls = list(dict.fromkeys(requester_line(one.stack).partition("/")[0] for one in missed))
    names = ", ".join(calls[:_FEW]) + (", …" if len(calls) > _FEW else "")
    many = f"{len(missed)} call stacks" if len(missed) > 1 else "a call stack"
    return [f"{many} of modules never failed, though plain runs asked there: {names}"]
