# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports that several tasks printed at the same time, into a log that does not say who printed which line."""

from __future__ import annotations

import pytest
from damaged_reports import prefixed

from kleaktrace.core.kmemleak.kmemleak_text import UNREAD, KmemleakText
from kleaktrace.core.kmemleak.report_parser import parse

HEADS = ("unreferenced object 0xffff888000000100 (size 64):", "unreferenced object 0xffff888000000200 (size 96):")
COMMS = (
    '  comm "first", pid 11, jiffies 4295000100 (age 50.000s)',
    '  comm "second", pid 22, jiffies 4295000200 (age 40.000s)',
)
TRACE = "  backtrace:"
FRAMES = ("    [<ffffffff83d41873>] one_probe+0x10/0x20 [one]", "    [<ffffffff83d42873>] two_probe+0x10/0x20 [two]")
TAG = "[  100.000001] kmemleak: "


def log(*lines: str) -> KmemleakText:
    return parse(prefixed(TAG)("\n".join(lines) + "\n"))


def both_without_stack(read: KmemleakText) -> list[tuple[str, int]]:
    assert [(one.address, one.size, one.frames) for one in read.objects] == [
        (0xFFFF888000000100, 64, ()),
        (0xFFFF888000000200, 96, ()),
    ]
    (problem,) = read.problems
    assert problem.line == 1
    assert "came into each other" in problem.what
    return [(one.comm, one.pid) for one in read.objects]


@pytest.mark.parametrize("traces", [(TRACE, TRACE, *FRAMES), (TRACE, FRAMES[1], TRACE, FRAMES[0])])
def test_nobody_can_tell_whose_comm_and_stack_it_is(traces: tuple[str, ...]) -> None:
    assert both_without_stack(log(*HEADS, *COMMS, *traces)) == [("", UNREAD), ("", UNREAD)]


def test_a_comm_line_before_the_other_report_begins_is_known() -> None:
    read = log(HEADS[0], COMMS[0], HEADS[1], COMMS[1], TRACE, TRACE, *FRAMES)
    assert both_without_stack(read) == [("first", 11), ("second", 22)]


def test_lines_of_others_in_between() -> None:
    other = "[  100.000002] usb 1-1: new device\n"
    lines = prefixed(TAG)("\n".join([*HEADS, *COMMS, TRACE, TRACE, *FRAMES]) + "\n").splitlines(keepends=True)
    assert both_without_stack(parse(other.join(lines))) == [("", UNREAD), ("", UNREAD)]


def test_what_follows_loses_nothing() -> None:
    third = HEADS[0].replace("100", "300"), COMMS[0], TRACE, FRAMES[0]
    read = log(*HEADS, *COMMS, TRACE, TRACE, *FRAMES, *third)
    assert [(one.address, len(one.frames), one.comm) for one in read.objects[2:]] == [(0xFFFF888000000300, 1, "first")]


def test_whole_stacks_are_shown_without_their_objects() -> None:
    read = log(*HEADS, COMMS[0], TRACE, FRAMES[0], COMMS[1], TRACE, FRAMES[1])
    assert [(one.comm, one.frames) for one in read.objects] == [("", ()), ("", ())]
    assert [(one.comm, [frame.symbol for frame in one.frames]) for one in read.stacks] == [
        ("first", ["one_probe"]),
        ("second", ["two_probe"]),
    ]


def test_a_report_that_breaks_off_takes_nothing_from_the_next() -> None:
    read = log(HEADS[0], COMMS[0], HEADS[1], COMMS[1], TRACE, FRAMES[1])
    assert [(one.comm, len(one.frames)) for one in read.objects] == [("first", 0), ("second", 1)]


def test_the_rest_of_a_third_report_is_not_the_seconds() -> None:
    read = log(HEADS[0], COMMS[0], TRACE, FRAMES[0], COMMS[1], TRACE, FRAMES[1])
    assert [(one.comm, len(one.frames)) for one in read.objects] == [("first", 1)]
    assert [(one.comm, len(one.frames)) for one in read.stacks] == [("second", 1)]
