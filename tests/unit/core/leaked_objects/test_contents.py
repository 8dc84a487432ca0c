# SPDX-License-Identifier: GPL-2.0-or-later
"""What the first bytes of an object tell, and that no pointer gets out."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleaktrace.core.events.records import hide
from kleaktrace.core.leaked_objects.contents import facts

NULL_RELEASE, NULL_WORK = 0xFFFFFFFF81001000, 0xFFFFFFFFC0100040
HEAP = 0xFF11000123456780
FUNCTIONS = {NULL_RELEASE: "null_release", NULL_WORK: "null_work [null_blk]"}


def words(memory: bytes) -> np.ndarray:
    return ~np.frombuffer(memory + bytes(-len(memory) % 8), np.uint64)


def told(*memory: bytes | int) -> tuple[str, ...]:
    """Facts of memory given as bytes and as numbers of 64 bits."""
    parts = [part if isinstance(part, bytes) else struct.pack("<Q", part % (1 << 64)) for part in memory]
    return facts(words(b"".join(parts)), FUNCTIONS.get)


def test_what_could_not_be_read_tells_nothing():
    assert facts(np.zeros(0, np.uint64), FUNCTIONS.get) == ()


def test_nothing_but_zeros():
    assert told(bytes(512)) == ("nothing but zeros in 512 bytes",)
    assert told(bytes(504), 1 << 40) == ()


@pytest.mark.parametrize(
    ("memory", "text"),
    [
        (b"iso8859-1\0", '"iso8859-1" at byte 0'),
        (b"\x01\x02\x03eth0\0", '"eth0" at byte 3'),
        (b"\xff" * 8 + b"12345678", '"12345678" at byte 8'),
        (b"x" + b"y" * 99 + b"\0", '"x' + "y" * 58 + '…" at byte 0'),
        (b"one-\0two--\0three\0fourth\0", '"two--" at byte 5, "three" at byte 11, "fourth" at byte 17'),
    ],
)
def test_text(memory, text):
    assert told(memory) == (f"text {text}",)


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(b"abc\0", id="too short"),
        pytest.param(b"eth0\x01\0\0\0", id="goes on with what is no text"),
        pytest.param(b"aaaaaaa\0", id="one character over and over"),
        pytest.param(b"$!a()\0", id="mostly signs"),
        pytest.param(b"\0\x01\0\0EDCBAD\xff\xff", id="a pointer"),
        pytest.param(b"ABCD\0\0\xff\xff", id="a pointer of arm64"),
    ],
)
def test_no_text(memory):
    assert not [fact for fact in told(memory) if fact.startswith("text")]


def test_functions_are_named_and_other_pointers_left_out():
    assert told(0, NULL_RELEASE, HEAP, NULL_RELEASE + 4, NULL_WORK, NULL_RELEASE) == (
        "points to null_release (byte 8), null_work [null_blk] (byte 32)",
    )


def test_many_functions_are_cut():
    names = {HEAP + 16 * number: f"f{number}" for number in range(5)}
    table = words(struct.pack("<5Q", *names))
    assert facts(table, names.get) == ("points to f0 (byte 0), f1 (byte 8), f2 (byte 16), 2 more",)


def test_function_is_asked_for_only_what_may_be_an_address():
    asked = []
    facts(words(struct.pack("<5Q", 5, (1 << 64) - 1, (1 << 64) - 12, HEAP, 0x00007F0012345678)), asked.append)
    assert asked == [HEAP]


def test_error_pointers():
    assert told(0, -12, 0, -517) == (
        "maybe an error pointer at byte 8: -ENOMEM",
        "maybe an error pointer at byte 24: -EPROBE_DEFER",
    )


@pytest.mark.parametrize("value", [-1, -4000, -5000, 12])
def test_no_error_pointers(value):
    assert told(0, value) == ()


def test_slub_poison_is_counted():
    assert told(bytes([0x6B] * 23 + [0xA5]), 0) == ("maybe never written: 3 of 4 words are SLUB's poison 6b",)
    assert told(bytes([0x5A] * 16), 0) == ("maybe never written: 2 of 3 words are SLUB's poison 5a",)


def test_what_is_not_of_a_slab_is_not_poisoned_by_it():
    assert facts(words(bytes([0x5A] * 16)), FUNCTIONS.get, of_slab=False) == ()


def test_poison_is_no_part_of_a_text():
    assert told(bytes([0x6B] * 8), b"eth0-rx\0")[0] == 'text "eth0-rx" at byte 8'


@pytest.mark.parametrize("poison", [0xDEAD000000000100, 0xDEAD000000000122])
def test_list_poison(poison):
    assert told(0, poison, poison) == ("was taken off a list (list poison at byte 8)",)


def test_spinlock_is_told_if_somebody_holds_it():
    held, free = struct.pack("<4I", 1, 0xDEAD4EAD, 3, 0), struct.pack("<4I", 0, 0xDEAD4EAD, 0xFFFFFFFF, 0)
    assert told(0, free, held) == ("spinlock at byte 24 held by CPU 3",)
    assert told(0, free) == ()


def test_reference_count_is_the_one_small_number_at_the_start_of_a_structure():
    assert told(HEAP, struct.pack("<2I", 2, 0)) == ("maybe a reference count of 2 at byte 8",)
    assert told(struct.pack("<2I", 2, 0), HEAP) == ("maybe a reference count of 2 at byte 0",)


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param((struct.pack("<2I", 2, 0), 0), id="no structure"),
        pytest.param((struct.pack("<2I", 2, 3), HEAP), id="which"),
        pytest.param((struct.pack("<2I", 65, 0), HEAP), id="large"),
        pytest.param((HEAP, HEAP, struct.pack("<2I", 2, 0)), id="not at the start"),
    ],
)
def test_no_reference_count(memory):
    assert told(*memory) == ()


def test_no_more_than_six_facts_and_the_most_telling_first():
    many = (2 << 32, b"eth0-rx\0", NULL_WORK, -12, -5, -22, 0xDEAD000000000100, bytes([0x6B] * 8))
    many_facts = told(*many)
    assert len(many_facts) == 6
    assert many_facts[0].startswith("text")
    assert many_facts[1].startswith("points to")


ADDRESSES = st.integers(0xFF << 56, (1 << 64) - 4096)
PRINTABLE = st.integers(0x20, 0x7E)


@given(st.lists(st.one_of(ADDRESSES, st.tuples(*[PRINTABLE] * 6)), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_no_pointer_gets_out_in_any_form(pointers):
    memory = [p if isinstance(p, int) else int.from_bytes(bytes(p) + b"\xff\xff", "little") for p in pointers]
    shown = " ".join(facts(words(struct.pack(f"<{len(memory)}Q", *memory)), lambda _: None))
    assert "text" not in shown
    for pointer in memory:
        assert f"{pointer:x}"[-8:] not in shown
        assert str(pointer) not in shown
        assert str(hide(pointer)) not in shown or hide(pointer) < 4096


@given(st.binary(max_size=4096))
@settings(max_examples=300, deadline=None)
def test_whatever_the_memory_facts_are_few_short_and_printable(memory):
    found = facts(words(memory), lambda _: None)
    assert len(found) <= 6
    for fact in found:
        assert len(fact) < 300
        assert fact.replace("…", "").isascii()
        assert fact.isprintable()


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=64))
@settings(deadline=None)
def test_words_are_left_as_they_are(memory):
    before = np.array(memory, np.uint64)
    after = before.copy()
    facts(after, lambda _: None)
    np.testing.assert_array_equal(before, after)
