# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kleaktrace.core.kmemleak.kmemleak_text import Message
from kleaktrace.core.kmemleak.message_meanings import meaning_of, meanings_of, new_suspects


@pytest.mark.parametrize(
    ("text", "is_leak", "is_off"),
    [
        ("Trying to color unknown object at 0xff11000100e918c0 as Black", False, False),
        ("Freeing unknown object at 0xff11000100e918c0", False, False),
        ("Partially freeing unknown object at 0xff11000100e918c0 (size 64)", False, False),
        ("Found object by alias at 0xffffff80049b5e80", False, False),
        ("Not scanning unknown object at 0xffffffffa000a000", False, False),
        ("Kernel memory leak detector initialized (mem pool available: 15678)", False, False),
        ("Kernel memory leak detector disabled", None, True),
        ("Kmemleak disabled without freeing internal data.", None, True),
        ("Cannot allocate a kmemleak_object structure", None, True),
        ("Cannot insert 0xffff888236e02f00 into the object search tree (overlaps existing)", None, True),
        ("bash: echo: write error: Operation not permitted", None, True),
        ("bash: echo: write error: Device or resource busy", None, True),
        ("bash: echo: write error: Invalid argument", None, False),
        ("3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", None, False),
    ],
)
def test_what_messages_mean(text: str, is_leak: bool | None, is_off: bool) -> None:
    meaning = meaning_of(Message(1, text))
    assert meaning is not None
    assert (meaning.is_leak, meaning.is_off) == (is_leak, is_off)


POOL = "Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE"
NO_RECORD = "Cannot allocate a kmemleak_object structure"
DISABLED = "Kernel memory leak detector disabled"


def test_that_it_is_off_means_what_was_told_above() -> None:
    told = meanings_of([Message(1, POOL, 0.0), Message(2, NO_RECORD, 0.0), Message(3, DISABLED, 0.0)])
    assert [one.what.rpartition("line 1 says: ")[2] for one in told if one] == 3 * [
        "kmemleak gave up: its memory pool was too small (-12)"
    ]
    assert len({one.fix for one in told if one}) == 1
    assert all(one and one.is_off for one in told)


def test_a_reason_of_another_boot_is_none() -> None:
    told = meanings_of([Message(1, POOL, 0.5), Message(2, DISABLED, 0.5), Message(3, DISABLED, 0.1)])
    assert told[2] == meaning_of(Message(3, DISABLED, 0.1))


def test_an_error_of_a_shell_is_no_reason() -> None:
    told = meanings_of([Message(1, "sh: echo: write error: Operation not permitted"), Message(2, DISABLED)])
    assert told[1] == meaning_of(Message(2, DISABLED))


def test_a_message_that_is_not_known() -> None:
    assert meaning_of(Message(1, "something new")) is None


def test_new_suspects_add_up() -> None:
    assert (
        new_suspects(
            (Message(1, "3 new suspected memory leaks"), Message(2, "x"), Message(3, "4 new suspected memory leaks"))
        )
        == 7
    )
