# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kleaktrace.core.kmemleak.messages import message_in, new_message_in, shell_error_in
from kleaktrace.core.kmemleak.report_parser import parse


@pytest.mark.parametrize(
    ("line", "following", "said"),
    [
        (
            "kmemleak: 10 new suspected memory",
            "leaks (see /sys/kernel/debug/kmemleak)",
            "10 new suspected memory leaks",
        ),
        ("kernel: kmemleak: Kmemleak disabled", "without freeing internal data. Reclaim", "Kmemleak disabled without"),
        ("> [ 1.0] kmemleak: Trying to color unknown", "> object at 0xff1 as Black", "Trying to color unknown object"),
    ],
)
def test_messages_that_are_wrapped(line: str, following: str, said: str) -> None:
    found = message_in(line, following)
    assert found is not None
    assert found[0].startswith(said)
    assert found[1]


def test_messages_that_are_not() -> None:
    assert message_in("kmemleak: 2 new suspected memory leaks", "next line") == ("2 new suspected memory leaks", False)
    assert message_in("I wonder what kmemleak does", "") is None


@pytest.mark.parametrize(
    "line",
    [
        "\x1b[32m[   12.345678] \x1b[0m\x1b[33mkmemleak\x1b[0m: Kernel memory leak detector disabled",
        "**[ 12.345] kmemleak:** Kernel memory leak detector disabled",
        "W/kmemleak( 123): Kernel memory leak detector disabled",
        "Kernel memory leak detector disabled$",
    ],
)
def test_marks_around_messages(line: str) -> None:
    assert message_in(line) == ("Kernel memory leak detector disabled", False)


@pytest.mark.parametrize("margin", ["+", "bq. ", "  9  ", "W/kernel (  123): "])
def test_messages_behind_the_margin_of_a_report(margin: str) -> None:
    lines = [
        "unreferenced object 0xffff888101354400 (size 64):",
        '  comm "drv", pid 11, jiffies 4295673747 (age 50.000s)',
        "  backtrace:",
        "    [<ffffffff81573b75>] kmalloc_trace+0x25/0x90",
        "Kernel memory leak detector disabled",
    ]
    read = parse("".join(f"{margin}{line}\n" for line in lines))
    assert [(one.line, one.text) for one in read.messages] == [(5, lines[-1])]
    assert len(read.objects) == 1


def test_messages_that_no_kernel_says_yet() -> None:
    assert new_message_in("[    1.000003] kmemleak: Some brand new message") == "Some brand new message"
    assert new_message_in("box kernel: kmemleak: 7 objects grew") == "7 objects grew"
    for other in (
        "Subject: kmemleak: Some report",
        "kmemleak: I have never seen it",
        "[    1.000003] kmemleak:     Frame+0x1/0x2",
        "[    1.000003] kmemleak: backtrace:",
        "[    1.000003] usb 1-1: kmemleak: Some message",
    ):
        assert new_message_in(other) is None


@pytest.mark.parametrize(
    "line",
    [
        "bash: echo: write error: Operation not permitted",
        "-bash: echo: write error: Device or resource busy",
        "cat: /sys/kernel/debug/kmemleak: Device or resource busy",
        "sh: 1: cannot create /sys/kernel/debug/kmemleak: Permission denied",
        "bash: /sys/kernel/debug/kmemleak: No such file or directory",
    ],
)
def test_errors_of_shells(line: str) -> None:
    assert shell_error_in(line) == line


def test_other_errors() -> None:
    assert shell_error_in("cat: /etc/shadow: Permission denied") is None
