# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from damaged_reports import LOG_PREFIXES

from kleaktrace.core.kmemleak.margins import Belongs, Margin, after_tag, caller_of, strip
from kleaktrace.core.kmemleak.text_lines import Line


def own(margin: Margin, text: str) -> tuple[str, int, Belongs]:
    line = margin.own(Line(1, text))
    return line.body, line.indent, line.belongs


@pytest.mark.parametrize("prefix", LOG_PREFIXES)
def test_what_is_behind_the_tag_is_found_whatever_is_before_it(prefix: str) -> None:
    assert after_tag(f"{prefix}Kernel memory leak detector disabled") == "Kernel memory leak detector disabled"


def test_known_marks_come_off() -> None:
    assert strip("> Nov 20 21:41:54 box kernel: [   12.733362] kmemleak:   comm") == ("comm", True)
    assert strip("2026-11-20T21:41:54Z text") == ("text", False)


def test_the_same_margin_with_other_numbers() -> None:
    margin = Margin("lava-07 (0012) :: ", ["lava-07 (0013) ::   comm"])
    assert own(margin, "lava-07 (0999) ::     frame") == ("frame", 5, Belongs.YES)
    assert own(margin, "frame") == ("frame", 0, Belongs.BARE)


def test_a_sentence_is_no_margin() -> None:
    margin = Margin("> he saw an ", [">   comm"])
    assert own(margin, ">   comm") == ("comm", 3, Belongs.YES)


def test_other_marks_are_of_others() -> None:
    assert own(Margin(""), "[  400.000004]  dump_stack+0x6d/0x89")[2] is Belongs.NO
    assert own(Margin("> "), "> [  400.000004]  dump_stack+0x6d/0x89")[2] is Belongs.NO
    tagged = Margin("[    1.000000] kmemleak: ")
    assert own(tagged, "[    2.000000] kmemleak:     a")[2] is Belongs.YES
    assert own(tagged, "[    2.000000]     a")[2] is Belongs.UNTAGGED
    assert own(tagged, "Nov 20 21:41:54 box kernel: a")[2] is Belongs.NO


def test_who_printed_a_line() -> None:
    assert caller_of("[  100.000001][   T55] kmemleak: a") == "T55"
    assert caller_of("[  100.000001][    C1] kmemleak: a") == "C1"
    assert caller_of("[  100.000001] kmemleak: a") is None


def test_a_line_without_the_last_of_many_marks_is_told_at_once() -> None:
    marks = '- {"dt": "2026-11-20T21:41:54", "lvl": "target", "host": "a", "msg": "[   12.733362] [   12.734800] '
    margin = Margin(f"{marks}kmemleak: ", [f"{marks}kmemleak:   comm"])
    assert own(margin, f"{marks}kmemleak:     frame") == ("frame", 5, Belongs.YES)
    assert own(margin, f"{marks} frame")[2] is not Belongs.YES  # this took seconds, for each line
