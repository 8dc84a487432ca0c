# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from kleaktrace.core.kmemleak.margins import Margin
from kleaktrace.core.kmemleak.reflow import reflowed
from kleaktrace.core.kmemleak.text_lines import lines_of


def lines(text: str) -> list[tuple[int, str]]:
    margin = Margin("")
    return [(line.number, line.body) for line in reflowed([margin.own(line) for line in lines_of(text)])]


def test_each_part_gets_a_line_with_the_number_where_it_began() -> None:
    assert lines(
        'unreferenced object 0xffff888107e28800 (size\n2048): comm "tc", pid 1079, jiffies 4294958525 (age 3074.287s)\n'
        "hex dump (first 4 bytes): b1 00\n00 41 ...A backtrace: [<ffffffff81c06a68>]\nmy_get+0x1e8/0x320 net/a.c:12\n"
        "[<ffffffff81ab374e>] tc_x+0x1/0x2 [sch]\n"
    ) == [
        (1, "unreferenced object 0xffff888107e28800 (size 2048):"),
        (2, 'comm "tc", pid 1079, jiffies 4294958525 (age 3074.287s)'),
        (3, "hex dump (first 4 bytes):"),
        (3, "b1 00 00 41"),
        (4, "backtrace:"),
        (4, "[<ffffffff81c06a68>] my_get+0x1e8/0x320 net/a.c:12"),
        (6, "[<ffffffff81ab374e>] tc_x+0x1/0x2 [sch]"),
    ]


def test_what_is_no_part_stays() -> None:
    assert lines("unreferenced object 0x12345678 (size 2):\nnobody knows\nbacktrace:\nf+0x1/0x2\n\nRegards, me\n") == [
        (1, "unreferenced object 0x12345678 (size 2):"),
        (2, "nobody knows"),
        (3, "backtrace:"),
        (4, "f+0x1/0x2"),
        (5, ""),
        (6, "Regards, me"),
    ]


def test_words_that_were_cut() -> None:
    assert lines("unreferenced object 0x12345678 (size 2):\nbacktrace:\nmy_probe.constprop.0+0x13c/\n0x36e [drv]\n")[
        2:
    ] == [(3, "my_probe.constprop.0+0x13c/0x36e [drv]")]
    assert lines("unreferenced object 0x12345678 (size 2):\nbacktrace:\nmy_pro[  400.0] usb 1-1: reset\nbe+0x1/0x2\n")[
        2:
    ] == [(3, "my_probe+0x1/0x2")]
