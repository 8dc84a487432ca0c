# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames, functions and answers, without any file."""

from __future__ import annotations

import pytest

from kleaktrace.core.source_lines.answers import AnswerReader
from kleaktrace.core.source_lines.file_names import short_name, source_root
from kleaktrace.core.source_lines.function_table import Function, calls
from kleaktrace.core.source_lines.source_lines import CodePlace, SourceLine, SourceLines, code_place

PLACE = CodePlace("drv", "drv_probe", 0x22, 0x100)


@pytest.mark.parametrize(
    ("frame", "place"),
    [
        ("drv_probe+0x22/0x100 [drv]", PLACE),
        ("kthread+0x1f/0x30", CodePlace("", "kthread", 0x1F, 0x30)),
        ("foo.isra.0+0x1/0x2", CodePlace("", "foo.isra.0", 1, 2)),
        ("0xffffffff81000000", None),
        ("bpf_prog_1234_f+0x1/0x2 [bpf]", None),
        ("f+0x1/0x2 [drv]\nf", None),
        ("f+0x11111111111111111/0x2", None),
        ("", None),
    ],
)
def test_frames_are_read(frame: str, place: CodePlace | None) -> None:
    assert code_place(frame) == place


def test_a_call_is_before_the_place_it_returns_to() -> None:
    assert calls(PLACE, {"drv_probe": [Function(0x1000, 0xF8, 0x100)]}, True) == [0x1021]
    assert calls(PLACE, {"other": [Function(0x1000, 0xF8, 0x100)]}, True) == []


def test_a_call_at_the_end_returns_behind_the_function() -> None:
    place = PLACE._replace(offset=0xF8)
    assert calls(place, {"drv_probe": [Function(0x1000, 0xF8, 0x100)]}, True) == [0x10F7]
    assert calls(place._replace(offset=0xF9), {"drv_probe": [Function(0x1000, 0xF8, 0x100)]}, True) == []
    assert calls(place._replace(offset=0), {"drv_probe": [Function(0x1000, 0xF8, 0x100)]}, True) == []


def test_of_several_functions_of_a_name_those_of_the_right_length_count() -> None:
    alike = [Function(0x1000, 0xF8, 0x100), Function(0x2000, 0x80, 0x80), Function(0x3000, 0x100, 0x100)]
    assert calls(PLACE, {"drv_probe": alike}, True) == [0x1021, 0x3021]
    assert calls(PLACE._replace(size=0x90), {"drv_probe": alike}, True) == [0x1021, 0x2021, 0x3021]


def test_what_may_be_another_build_must_be_as_long() -> None:
    assert calls(PLACE, {"drv_probe": [Function(0x1000, 0xF8, 0xF8)]}, False) == []
    assert calls(PLACE, {"drv_probe": [Function(0x1000, 0xF8, 0x100)]}, False) == [0x1021]
    last = Function(0x1000, 0xF8, 0xF8, is_last=True)  # the kernel counts up to the end of the page
    assert calls(PLACE, {"drv_probe": [last]}, False) == [0x1021]
    assert calls(PLACE._replace(size=0x80), {"drv_probe": [last]}, False) == []


ANSWER = (("drv_get", "/build/linux/./drivers/drv.h", 6), ("init_module", "/build/linux/drivers/drv.c", 12))


def test_an_answer_becomes_lines_below_the_root() -> None:
    assert AnswerReader("/build/linux/").lines(PLACE, [ANSWER, ANSWER]) == (
        SourceLine("drv_get", "drivers/drv.h", 6, True),
        SourceLine("drv_probe", "drivers/drv.c", 12),
    )


def test_answers_that_do_not_agree_are_none() -> None:
    assert AnswerReader("").lines(PLACE, [ANSWER, ANSWER[1:]]) == ()
    assert AnswerReader("").lines(PLACE, [()]) == ()
    assert AnswerReader("").lines(PLACE, []) == ()


def test_names_of_files_are_shortened() -> None:
    assert source_root("/build/linux/./init/main.c", "init/main.c") == "/build/linux/"
    assert source_root("/build/linux/init/version.c", "init/main.c") == ""
    assert source_root("init/main.c", "init/main.c") == ""
    assert short_name("/build/linux/../linux/mm/slub.c", "/build/linux/") == "mm/slub.c"
    assert short_name("./include/linux/slab.h", "") == "include/linux/slab.h"
    assert short_name("/home/me/drv.c", "/build/linux/") == "/home/me/drv.c"
    assert len(short_name("/" + "x" * 5000, "")) < 300


def test_lines_go_by_frame() -> None:
    lines = SourceLines({"f+0x1/0x2": (SourceLine("f", "f.c", 3),)})
    assert [one.place for one in lines.of("f+0x1/0x2")] == ["f.c:3"]
    assert lines.of("g+0x1/0x2") == ()
    assert SourceLine("f", "f.c", 0).place == "f.c"
    assert lines
    assert not SourceLines()
