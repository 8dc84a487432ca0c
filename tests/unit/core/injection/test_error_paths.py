# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is to blame: suspects by the run in which they were allocated, and by what runs without failure leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from reports import START_NS, judged

from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.injected_runs import FailedAllocation, InjectedRun, RunEnd, Walk
from kleaktrace.core.injection.error_paths import Attribution, PathOutcome, attribute

SECOND = 1_000_000_000
END_S = 100
RING = ("alloc_ring+0x12/0x40 [drv]", "drv_init+0x50/0x90 [drv]")
NAME = ("alloc_name+0x12/0x40 [drv]", "drv_init+0x30/0x90 [drv]")
CTX = ("alloc_ctx+0x12/0x40 [drv]", "drv_init+0x10/0x90 [drv]")


def failed(stack: Sequence[str], at: float = 0) -> FailedAllocation:
    return FailedAllocation(START_NS + round(at * SECOND), tuple(stack), 64)


def run(number: int, what: Sequence[str] | None, **fields: object) -> InjectedRun:
    """A run of a second that begins `number` seconds after the start."""
    start = START_NS + number * SECOND
    known: dict[str, object] = {"status": 1 if what else 0, **fields}
    return InjectedRun(number, start, start + SECOND // 2, failed(what) if what else None, **known)  # type: ignore[arg-type]


def left(at: float, stack: Sequence[str] = CTX, **fields: object) -> JudgedSuspect:
    """A suspect that was allocated so many seconds after the start."""
    return judged(age_s=END_S - at, stack=tuple(stack), **fields)


def attributed(runs: Sequence[InjectedRun], *suspects: JudgedSuspect) -> Attribution:
    walk = Walk("made up", runs, len(runs), START_NS + len(runs) * SECOND)
    return attribute(walk, suspects, START_NS + END_S * SECOND)


def test_a_suspect_is_blamed_on_the_failure_of_the_run_in_which_it_was_allocated() -> None:
    leak = left(2.1)
    found = attributed([run(0, None), run(1, NAME), run(2, RING), run(3, None)], leak)
    assert [path.failed.stack for path in found.paths] == [RING, NAME]
    assert [path.outcome for path in found.paths] == [PathOutcome.LEAKS, PathOutcome.CLEAN]
    assert found.paths[0].confirmed == [leak]
    assert found.paths[0].numbers == [2]


def test_what_is_allocated_after_a_run_and_before_the_next_belongs_to_it() -> None:
    found = attributed([run(0, None), run(1, RING), run(2, None)], left(1.9))
    assert found.paths[0].outcome is PathOutcome.LEAKS


@pytest.mark.parametrize("plain", [0, 3])
def test_what_a_run_without_failure_leaves_too_is_blamed_on_no_failure(plain: int) -> None:
    found = attributed([run(0, None), run(1, RING), run(2, NAME), run(3, None)], left(1.1), left(plain + 0.2))
    assert [path.outcome for path in found.paths] == [PathOutcome.CLEAN] * 2
    assert len(found.without_failure) == 2


def test_a_leak_is_not_excused_by_what_a_plain_run_leaves_unexplained() -> None:
    unexplained = left(0.2, verdict=Verdict.UNDECIDED)
    found = attributed([run(0, None), run(1, RING), run(2, None)], left(1.1), unexplained)
    assert found.paths[0].outcome is PathOutcome.LEAKS
    assert list(found.without_failure) == [unexplained]


def test_what_is_unexplained_is_excused_by_a_leak_of_a_plain_run() -> None:
    found = attributed([run(0, None), run(1, RING), run(2, None)], left(1.1, verdict=Verdict.UNDECIDED), left(0.2))
    assert found.paths[0].outcome is PathOutcome.CLEAN


def test_a_run_that_did_not_end_well_excuses_nothing() -> None:
    runs = [run(0, None), run(1, RING), run(2, None, status=1)]
    found = attributed(runs, left(1.1), left(2.1))
    assert found.paths[0].outcome is PathOutcome.LEAKS


def test_what_is_undecided_makes_its_path_undecided_if_it_counts() -> None:
    runs = [run(0, None), run(1, RING), run(2, NAME), run(3, None)]
    counts = left(1.1, verdict=Verdict.UNDECIDED)
    says_nothing = left(2.1, verdict=Verdict.UNDECIDED, counts_against_clean=False)
    found = attributed(runs, counts, says_nothing)
    assert {path.failed.stack: path.outcome for path in found.paths} == {
        RING: PathOutcome.UNDECIDED,
        NAME: PathOutcome.CLEAN,
    }


def test_what_was_dismissed_or_is_older_is_nobodys() -> None:
    old = left(-5, in_window=False)
    found = attributed([run(0, None), run(1, RING)], left(1.1, verdict=Verdict.DISMISSED), old, left(50))
    assert found.paths[0].outcome is PathOutcome.CLEAN
    assert old in found.elsewhere
    assert len(found.elsewhere) == 2


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (RunEnd.CRASHED, PathOutcome.CRASH),
        (RunEnd.HUNG, PathOutcome.HANG),
        (RunEnd.STUCK, PathOutcome.HANG),
        (RunEnd.INTERRUPTED, PathOutcome.UNDECIDED),
    ],
)
def test_how_a_run_ended_is_what_came_of_it(ended: RunEnd, outcome: PathOutcome) -> None:
    found = attributed([run(0, None), run(1, RING, ended=ended)])
    assert found.paths[0].outcome is outcome


def test_a_state_that_the_next_run_cannot_start_from_is_undecided() -> None:
    assert attributed([run(0, None), run(1, RING, left_unfit=True)]).paths[0].outcome is PathOutcome.UNDECIDED


def test_runs_in_which_the_same_call_failed_are_one_path() -> None:
    found = attributed([run(0, None), run(1, RING), run(2, RING), run(3, NAME)], left(2.1))
    assert [path.numbers for path in found.paths] == [[1, 2], [3]]
    assert found.paths[0].outcome is PathOutcome.LEAKS


def test_what_others_allocated_meanwhile_is_blamed_on_nobody() -> None:
    by_core = ("core_alloc+0x1/0x9", "kthread+0x2/0x9")
    other = left(1.1, by_core, comm="kworker/0:1")
    found = attributed([run(0, None), run(1, RING), run(2, None)], other)
    assert found.paths[0].outcome is PathOutcome.CLEAN
    assert list(found.elsewhere) == [other]


def test_what_core_code_allocated_for_the_command_is_blamed() -> None:
    failing = FailedAllocation(START_NS + SECOND, RING, 64, comm="insmod")
    runs = [run(0, None), replace(run(1, RING), failed=failing), run(2, None)]
    found = attributed(runs, left(1.1, ("core_alloc+0x1/0x9",), comm="insmod"))
    assert found.paths[0].outcome is PathOutcome.LEAKS
