# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that people and the kernel mention behind a report are none of its own, however the report must be mended."""

from __future__ import annotations

import pytest
from damaged_reports import WHOLE as DAMAGES
from damaged_reports import prefixed

from kleaktrace.core.kmemleak.kmemleak_text import KmemleakText
from kleaktrace.core.kmemleak.report_parser import parse

HEAD = """\
unreferenced object 0xffff888000000100 (size 64):
  comm "drv", pid 11, jiffies 4295000100 (age 50.000s)
  backtrace:
    [<ffffffff81573b75>] kmalloc_trace+0x25/0x90
"""
WHOLE = f"{HEAD}    [<ffffffff83d41873>] drv_probe+0x10/0x20 [drv]\n"
WRAPPED = f"{HEAD}    [<ffffffff83d41873>] drv_probe+0x10/0x20\n[drv]\n"
QUOTED = prefixed("> ")(WHOLE)
WRAPPED_THEN_QUOTED = prefixed("> ")(WRAPPED)
QUOTED_THEN_WRAPPED = WRAPPED_THEN_QUOTED.replace("> [drv]", "[drv]")
REPORTS = {
    "whole": WHOLE,
    "wrapped": WRAPPED,
    "quoted": QUOTED,
    "wrapped, then quoted": WRAPPED_THEN_QUOTED,
    "quoted, then wrapped": QUOTED_THEN_WRAPPED,
}


def read_with_its_own_frames_only(text: str) -> KmemleakText:
    read = parse(text)
    assert [str(frame) for frame in read.objects[0].frames] == ["kmalloc_trace+0x25/0x90", "drv_probe+0x10/0x20 [drv]"]
    return read


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
@pytest.mark.parametrize(
    "prose",
    [
        "The fault is in drv_probe+0x10/0x20, which calls foo().",
        "Yes. foo+0x10/0x20 should free it.",
        "See drv_probe+0x10/0x20 [drv]",
    ],
)
def test_a_sentence_that_names_a_frame(report: str, prose: str) -> None:
    read_with_its_own_frames_only(f"{report}{prose}\n")
    assert read_with_its_own_frames_only(f"{report}\n{prose}\nBob\n").problems == ()


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
@pytest.mark.parametrize("prose", ["foo+0x10/0x20 should free it here.", "-- \nfoo+0x1/0x2 me"])
def test_what_begins_with_a_frame_behind_an_empty_line(report: str, prose: str) -> None:
    assert read_with_its_own_frames_only(f"{report}\n{prose}\n").problems == ()


def test_a_quoted_report_with_a_quoted_empty_line_behind_it() -> None:
    text = prefixed("> ")(f"{WRAPPED}\nYes. foo+0x10/0x20 should free it.\n")
    assert read_with_its_own_frames_only(text).problems == ()
    deep = ">" + text.replace("\n>", "\n>>").replace(">> [drv]\n>> \n>> Yes", "> [drv]\n> \n> Yes")
    read_with_its_own_frames_only(deep)


def test_an_answer_at_once_behind_a_wrapped_quotation() -> None:
    read_with_its_own_frames_only(f"{QUOTED_THEN_WRAPPED}foo+0x10/0x20 should free it.\n")
    read_with_its_own_frames_only(f"{QUOTED_THEN_WRAPPED}foo+0x10/0x20\nis where it should be freed\n")


@pytest.mark.parametrize("report", [WHOLE, WRAPPED], ids=["whole", "wrapped"])
@pytest.mark.parametrize(
    "line",
    [
        "BUG: KASAN: use-after-free in foo+0x1/0x2\nCall Trace:\n <TASK>\n foo+0x1/0x2\n </TASK>",
        "BUG: KASAN: slab-use-after-free in foo+0x1/0x2 [mod]",
        "WARNING: CPU: 0 PID: 1 at kernel/foo.c:12 foo+0x12/0x34",
        "WARNING: kernel/foo.c:12 at foo+0x12/0x34, CPU#1: task/1",
        "pc : foo+0x1/0x2\nlr : bar+0x1/0x2",
        "RIP: 0010:foo+0x1/0x2",
        "hardirqs last  enabled at (123): [<ffffffff81573b75>] foo+0x1/0x2",
        "initcall foo_init+0x0/0x20 returned 0 after 1 usecs",
        "INFO: lockdep is turned off at foo+0x1/0x2",
    ],
)
def test_messages_of_the_kernel_without_a_time(report: str, line: str) -> None:
    assert read_with_its_own_frames_only(f"{report}{line}\n").problems == ()


def test_other_lines_with_a_frame_are_told() -> None:
    event = " task-123 [000] .... 1.0: kmalloc: call_site=foo+0x1/0x2 ptr=1"
    assert [problem.line for problem in read_with_its_own_frames_only(f"{WHOLE}{event}\n").problems] == [6]
    assert [problem.line for problem in read_with_its_own_frames_only(f"{WHOLE}foo+0x1/0x2\n").problems] == [6]


def test_a_frame_that_lost_its_indent_among_others_is_the_reports() -> None:
    text = f"{HEAD}foo+0x1/0x2\n    [<ffffffff83d41873>] drv_probe+0x10/0x20 [drv]\n"
    assert [frame.symbol for frame in parse(text).objects[0].frames] == ["kmalloc_trace", "foo", "drv_probe"]


def test_words_among_the_frames_hide_none_of_them() -> None:
    text = WRAPPED.replace("    [<ffffffff83", "The one above, kmalloc_trace+0x25/0x90, is innocent:\n    [<ffffffff83")
    assert [problem.line for problem in read_with_its_own_frames_only(text).problems] == [5]


def test_source_paths_before_a_frame_do_not_hide_it() -> None:
    text = f"{HEAD}mm/slab.c:12 [<ffffffff83d41873>] drv_probe+0x10/0x20 [drv]\n"
    assert [frame.symbol for frame in parse(text).objects[0].frames] == ["kmalloc_trace", "drv_probe"]


@pytest.mark.parametrize("report", [WRAPPED.replace("    ", ""), " ".join(WHOLE.split())], ids=["unindented", "flowed"])
@pytest.mark.parametrize(
    "prose", ["The fault is in\nfoo+0x1/0x2, I think.", "It comes from foo+0x1/0x2\nor bar+0x1/0x2."]
)
def test_a_sentence_that_is_wrapped(report: str, prose: str) -> None:
    read_with_its_own_frames_only(f"{report}\n{prose}\n")


def test_a_sentence_that_goes_on_behind_a_flowed_report() -> None:
    read_with_its_own_frames_only(f"{' '.join(WHOLE.split())} The fault is in\nfoo+0x1/0x2, I think.\n")


def test_words_before_a_frame_that_is_set_in() -> None:
    text = WRAPPED.replace("    [<ffffffff83", "usb new device\n    [<ffffffff83")
    read_with_its_own_frames_only(text)


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize(
    "behind",
    [
        "The fault is in foo+0x10/0x20, which calls bar().",
        "\nfoo+0x10/0x20 should free it.",
        "BUG: KASAN: use-after-free in foo+0x1/0x2\nCall Trace:\n <TASK>\n foo+0x1/0x2\n </TASK>",
        "pc : foo+0x1/0x2\nlr : bar+0x1/0x2",
        "It comes from the\nfoo+0x1/0x2 that I named.",
    ],
)
def test_no_damage_makes_frames_of_what_follows(name: str, behind: str) -> None:
    damaged = DAMAGES[name](WHOLE)
    found = [[str(frame) for frame in one.frames] for one in parse(damaged).objects]
    assert found == [["kmalloc_trace+0x25/0x90", "drv_probe+0x10/0x20 [drv]"]]
    assert [[str(frame) for frame in one.frames] for one in parse(f"{damaged}{behind}\n").objects] == found


@pytest.mark.parametrize("report", [WHOLE, WRAPPED, prefixed("[   12.733362] kmemleak: ")(WHOLE)])
def test_a_frame_that_is_quoted_behind_a_report_that_is_not(report: str) -> None:
    read_with_its_own_frames_only(f"{report}> foo+0x1/0x2\n")


def test_a_report_of_which_every_second_line_is_empty() -> None:
    read_with_its_own_frames_only(WRAPPED.replace("\n", "\n\n") + "Yes. foo+0x1/0x2 should\nfree it.\n")
