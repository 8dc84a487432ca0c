# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kleaktrace.core.kmemleak.decoding import (
    decoded,
    without_end_marks,
    without_escapes,
    without_html,
    without_markdown,
    without_quoted_printable,
    without_strange_blanks,
)
from kleaktrace.core.kmemleak.text_lines import Line, lines_of


def numbered(text: str) -> list[Line]:
    return list(lines_of(text))


def test_soft_breaks_join_lines_that_keep_the_number_of_the_first() -> None:
    read = without_quoted_printable(numbered("a+0x1=\n2/0x34\nnext=3D1\n"))
    assert read == [(1, "a+0x12/0x34"), (3, "next=1")]


def test_soft_breaks_within_a_quote() -> None:
    assert without_quoted_printable(numbered("> > a+0x1=\n> > 2/0x34\n")) == [(1, "> > a+0x12/0x34")]


def test_bytes_are_utf_8_or_else_latin_1() -> None:
    assert without_quoted_printable(numbered("=C2=A0 a\n=A0 b\n")) == [(1, "\u00a0 a"), (2, "\u00a0 b")]


@pytest.mark.parametrize(
    "text", ["x =12 timeout=30", "==========", "    3d 3d                    ==", "    00 3d  .=", "RAX=0000000000"]
)
def test_what_only_looks_like_quoted_printable_stays(text: str) -> None:
    lines = numbered(f"{text}\nnext\n")
    assert without_quoted_printable(lines) == lines


def test_html_becomes_lines() -> None:
    page = '<div class="a">x [&lt;ffff&gt;] f&#43;0x1</div><div>y&nbsp;z</div>\n<a href="b"\n name="c">w</a>\n'
    assert without_html(numbered(page)) == [(1, "x [<ffff>] f+0x1"), (1, "y\u00a0z"), (2, "w")]


def test_what_was_escaped_twice() -> None:
    assert without_html(numbered("[&amp;lt;ffff&amp;gt;]\n")) == [(1, "[<ffff>]")]


def test_addresses_in_pointed_brackets_and_rust_are_no_tags() -> None:
    lines = numbered("[<ffffffff81000000>] <core::fmt as Foo<T>>::fmt+0x1/0x2\n")
    assert without_html(lines) == lines


def test_strings_of_json_become_lines_with_one_number() -> None:
    text = r'{"msg": "unreferenced object 0x1 (size 2):\n  comm \"a\", pid 1, jiffies 2\n  backtrace:\n    f+0x1/0x2"}'
    assert [line.text for line in without_escapes([Line(7, text)])] == [
        '{"msg": "unreferenced object 0x1 (size 2):',
        '  comm "a", pid 1, jiffies 2',
        "  backtrace:",
        "    f+0x1/0x2",
    ]


def test_a_name_with_a_backslash_stays() -> None:
    assert without_escapes([Line(1, r'  comm "a\n", pid 1, jiffies 2\n')]) == [(1, r'  comm "a\n", pid 1, jiffies 2')]


def test_markdown() -> None:
    assert without_markdown([Line(1, r"\[\<ffff\>\] a\_b+0x1")]) == [(1, "[<ffff>] a_b+0x1")]


def test_blanks_of_other_encodings() -> None:
    assert without_strange_blanks([Line(1, r"\xa0 a"), Line(2, "\u00c2\u00a0b\u200b")]) == [(1, "  a"), (2, " b")]


def test_plain_text_is_left_alone() -> None:
    lines = numbered('unreferenced object 0x1 (size 2):\n  comm "a<b>&c", pid 1, jiffies 2\n')
    assert decoded(lines) == lines


def test_marks_where_lines_end() -> None:
    shown = [Line(1, "  backtrace:$"), Line(2, "^Ia+0x1/0x2^M$"), Line(3, "$")]
    assert without_end_marks(shown) == [Line(1, "  backtrace:"), Line(2, "\ta+0x1/0x2"), Line(3, "")]
    assert without_end_marks([Line(1, "US$"), Line(2, "a"), Line(3, "b")])[0] == Line(1, "US$")
