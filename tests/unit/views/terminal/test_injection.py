# SPDX-License-Identifier: GPL-2.0-or-later
"""What `inject` prints: the answer first, then the evidence."""

from __future__ import annotations

from dataclasses import replace

from reports import EVIL, SECOND, START_NS, console, judged, printed, report

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.evidence.injected_runs import FailedAllocation, InjectedRun, RunEnd, Walk
from kleaktrace.core.injection.report import InjectionReport, walk_gaps
from kleaktrace.core.report import Outcome
from kleaktrace.views.terminal.injection import show

RING = ("alloc_ring+0x12/0x40 [drv]", "drv_init+0x50/0x90 [drv]")
NODE = ("kernfs_new_node+0x56/0x80", "sysfs_create_dir_ns+0x8/0x90", "drv_init+0x70/0x90 [drv]")


def run(number: int, stack: tuple[str, ...] | None, **fields: object) -> InjectedRun:
    start = START_NS + number * SECOND
    failed = FailedAllocation(start, stack, 1024, key=len(stack[0])) if stack else None
    made = InjectedRun(number, start, start + SECOND // 2, failed, 1 if stack else 0)
    return replace(made, **fields)  # type: ignore[arg-type]


def shown(
    *runs: InjectedRun, suspects: tuple[object, ...] = (), outcome: Outcome = Outcome.CLEAN, stopped: str = ""
) -> str:
    walk = Walk("made up", runs, 2, START_NS + len(runs) * SECOND, stopped)
    told = replace(report(), suspects=suspects, outcome=outcome, gaps=walk_gaps(walk), growing=())  # type: ignore[arg-type]
    screen = console(100)
    show(screen, InjectionReport(told, walk))
    return printed(screen)


def allocated(at: float, **fields: object) -> object:
    told = report()
    return judged(age_s=(told.now_ns - START_NS) / SECOND - at, **fields)


def test_a_leak_begins_with_the_call_that_fails() -> None:
    text = shown(
        run(0, None), run(1, RING), run(2, NODE), run(3, None), suspects=(allocated(1.1),), outcome=Outcome.LEAKS
    )
    lines = text.splitlines()
    assert (
        lines[0]
        == "LEAK when 1,024 bytes in alloc_ring+0x12 fails: 1 object, 128 B, from drv_probe, never freed (run 1)"
    )
    assert lines[1] == "the other error path frees everything"
    assert "2 allocations failed, one in each run, by made up; the plain run showed 2 that could" in lines[3]
    assert lines[-1] == "LEAKS: 2 error paths: 1 leaking, 1 clean"


def test_one_call_may_ask_for_more_than_one_allocation() -> None:
    text = shown(run(0, None), run(1, RING), run(2, NODE), run(3, RING), run(4, None))
    assert "3 allocations failed, one in each run, in 2 error paths, by made up; the plain run showed 2" in text


def test_where_core_code_asked_the_module_behind_is_named() -> None:
    text = shown(run(0, None), run(1, NODE), suspects=(allocated(1.1),), outcome=Outcome.LEAKS)
    assert text.startswith("LEAK when 1,024 bytes in sysfs_create_dir_ns+0x8, for drv_init+0x70, fails: 1 object")


def test_all_that_is_clean_takes_a_line() -> None:
    text = shown(run(0, None), run(1, RING), run(2, NODE), run(3, None))
    assert text.startswith("the 2 error paths free everything\n")
    assert text.rstrip().endswith("clean: 2 error paths: 2 clean")


def test_a_crash_a_hang_and_a_bad_state_come_with_what_is_known() -> None:
    runs = [
        *(run(0, None), run(1, RING, ended=RunEnd.CRASHED, said=("BUG: kernel NULL pointer dereference",))),
        *(run(2, NODE, ended=RunEnd.STUCK), run(3, None)),
    ]
    text = shown(*runs, outcome=Outcome.INCOMPLETE, stopped="in run 2, which can't be killed: restart the machine")
    assert text.splitlines()[0] == (
        "CRASH when 1,024 bytes in alloc_ring+0x12 fails: BUG: kernel NULL pointer dereference (run 1)"
    )
    assert text.splitlines()[1].startswith("HANG when 1,024 bytes in sysfs_create_dir_ns+0x8")
    assert "evidence incomplete: it ended in run 2, which can't be killed: restart the machine" in text


def test_what_leaks_without_any_failure_is_told_apart() -> None:
    text = shown(
        *(run(0, None), run(1, RING), run(2, None)),
        suspects=(allocated(0.1), allocated(1.1), allocated(2.1)),
        outcome=Outcome.LEAKS,
    )
    assert text.startswith(
        "LEAK without any failure: 3 objects, 384 B, from drv_probe\nthe error path frees everything"
    )


def test_what_is_unexplained_is_undecided() -> None:
    left = allocated(1.1, verdict=Verdict.UNDECIDED)
    text = shown(run(0, None), run(1, RING), suspects=(left,), outcome=Outcome.INCOMPLETE)
    assert text.startswith(
        "undecided when 1,024 bytes in alloc_ring+0x12 fails: 1 object, 128 B, from drv_probe (run 1)"
    )


def test_names_from_the_kernel_do_not_reach_the_terminal_as_they_are() -> None:
    evil = (f"alloc{EVIL}+0x1/0x2 [drv]",)
    text = shown(run(0, None), run(1, evil, said=(EVIL,), ended=RunEnd.CRASHED), outcome=Outcome.INCOMPLETE)
    assert "\x1b]0;" not in text
