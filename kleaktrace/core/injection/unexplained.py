# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs left behind that only a repetition of the same can judge: something may point to it.

A cache keeps some of the first times, a leak grows with each (core/repetition). But every run of a walk does something
else: so that there is something to compare, the same is done again and again, with the same failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kleaktrace.core.events.records import Rows
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.injected_runs import InjectedRun, RunEnd, Walk
from kleaktrace.core.evidence.rounds import RoundSeries, repeated
from kleaktrace.core.kept_on_purpose import rule_for_row
from kleaktrace.core.recording import Recording
from kleaktrace.core.symbols.call_stacks import Stack

ROUNDS = 9
"""So many of the same, one after the other, are enough for the sign test, be it what core code keeps."""


def unexplained_runs(recording: Recording, walk: Walk, module: str | None) -> list[InjectedRun]:
    """The runs that left something behind which went through the module (None: any), and that no other rule convicts.

    Of runs in which something failed those count whose leftovers are of call stacks of which runs without failure left
    nothing. If such left something, the first of them is one, too.
    """
    rows = _left(recording, module)
    by_run: dict[int, set[int]] = {}
    for row in rows:
        run = walk.run_at(int(row["time_ns"]))
        if run is not None:
            by_run.setdefault(run.number, set()).add(int(row["stack"]))
    plain = [run for run in walk.runs if run.is_plain]
    usual = set().union(*(by_run.get(run.number, ()) for run in plain))
    found = [run for run in plain if by_run.get(run.number)][:1]
    for run in walk.runs:
        whole = run.failed is not None and run.ended is RunEnd.EXITED and not run.left_unfit
        if whole and by_run.get(run.number, set()) - usual:
            found.append(run)
    return found


def unjudged_runs(
    recording: Recording, walk: Walk, suspects: Sequence[JudgedSuspect], module: str | None
) -> list[InjectedRun]:
    """Those of `unexplained_runs` of which nothing is confirmed."""
    end_ns = recording.clock.end.time_ns
    confirmed = [suspect for suspect in suspects if suspect.verdict is Verdict.CONFIRMED]
    runs = [walk.run_at(end_ns - round(suspect.age_s * 1e9)) for suspect in confirmed]
    convicted = {run.number for run in runs if run is not None}
    return [run for run in unexplained_runs(recording, walk, module) if run.number not in convicted]


def count_unexplained(recording: Recording, module: str | None) -> int:
    """How many allocations are outstanding that only repetition can judge."""
    return len(_left(recording, module))


def series_of(walk: Walk) -> list[RoundSeries]:
    """What was done again and again, as rounds: of each failure those that came one after the other."""
    found: list[RoundSeries] = []
    for first, last in _stretches(walk.runs, lambda run: (run.again, run.failed.stack if run.failed else None)):
        failed = walk.runs[first].failed
        is_same = failed is None or failed.key  # by number, one call stack may have been there for several things
        if walk.runs[first].again and is_same and last > first:
            starts = [run.start_ns for run in walk.runs[first : last + 1]]
            end_ns = walk.runs[last + 1].start_ns if last + 1 < len(walk.runs) else walk.end_ns
            found.append(repeated(starts, end_ns))
    return found


def _stretches(runs: Sequence[InjectedRun], key: Callable[[InjectedRun], Any]) -> list[tuple[int, int]]:
    """The first and the last place of what is alike one after the other."""
    found: list[tuple[int, int]] = []
    for place, run in enumerate(runs):
        if found and key(runs[place - 1]) == key(run):
            found[-1] = found[-1][0], place
        else:
            found.append((place, place))
    return found


def _left(recording: Recording, module: str | None) -> Rows:
    """OUTSTANDING rows of what went through the module, and what other rules do not judge."""
    names, books = recording.names, recording.ledger.snapshot()
    keys = books.stacks[books.outstanding > 0].tolist()
    stacks = {key: names.stacks.get(key) for key in keys}
    through = [key for key, stack in stacks.items() if _goes_through(stack, module)]
    rows = recording.ledger.outstanding(through)
    return rows[np.array([_is_open(recording, row, stacks[int(row["stack"])]) for row in rows], np.bool_)]


def _goes_through(stack: Stack, module: str | None) -> bool:
    return module in stack.modules if module else bool(stack.modules)


def _is_open(recording: Recording, row: Any, stack: Stack) -> bool:
    if stack.below_machinery or stack.within_vmalloc:
        return False
    owner = stack.owner.module if stack.owner is not None else None
    if owner and recording.names.symbols.unloaded_after(owner, int(row["time_ns"])) is not None:
        return False  # its own code never freed it, and is gone
    values = (int(row[name]) for name in ("kind", "cache", "bytes_alloc", "stack", "gfp_flags"))
    return rule_for_row(recording.names, *values) is None
