# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kleaktrace.core.kmemleak.messages import message_in, shell_error_in


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
