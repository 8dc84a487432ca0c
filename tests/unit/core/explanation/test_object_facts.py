# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct

import pytest

from kleaktrace.core.explanation import object_facts as module
from kleaktrace.core.explanation.object_facts import common_facts, facts_of
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.kmemleak_text import Suspect

POINTER = 0xFFFF888101354440


def suspect(*words: int, address: int = 0xFFFF888101354400) -> Suspect:
    frame = KmemleakFrame(0xFFFFFFFFC03A2040, "probe", 0x40, 0xF0)
    data = struct.pack(f"<{len(words)}Q", *words)
    return Suspect(address, 64, "slab", "a", 1, 2, None, None, (frame,), contents=data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((0, 0, 0, 0), "nothing but zeros in 32 bytes"),
        ((int.from_bytes(b"erofs\0\0\0", "little"), 0), 'text "erofs" at byte 0'),
        ((0xDEAD000000000100, 0xDEAD000000000122), "was taken off a list"),
        ((0x6B6B6B6B6B6B6B6B, 0x6B6B6B6B6B6B6B6B), "bytes 6b: SLUB's mark of freed memory"),
        ((1, POINTER), "maybe a reference count of 1 at byte 0"),
        ((0xFFFFFFFFC03A2000, 0), "points to probe (byte 0)"),
    ],
)
def test_what_bytes_tell(words: tuple[int, ...], said: str) -> None:
    assert any(fact.startswith(said) for fact in facts_of(suspect(*words))), facts_of(suspect(*words))


@pytest.mark.parametrize("address", [0xC625E000, 0xC000201C382A1000, 0x8000000044BEBB00])
def test_of_other_machines_only_text_is_read(address: int) -> None:
    assert facts_of(suspect(1, POINTER, address=address)) == ()
    text = int.from_bytes(b"erofs\0\0\0", "little")
    assert facts_of(suspect(1, text, address=address)) == ('text "erofs" at byte 8',)


def test_an_object_without_a_dump() -> None:
    assert facts_of(suspect()) == ()


def test_what_several_objects_have_in_common() -> None:
    text = int.from_bytes(b"erofs\0\0\0", "little")
    assert common_facts([suspect(text, 0), suspect(text, 0), suspect(0, 0)]) == ('text "erofs" at byte 0 (2 of 3)',)


def test_of_very_many_objects_only_the_first_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Suspect] = []
    monkeypatch.setattr(module, "facts_of", lambda one: (read.append(one), ("a fact",))[1])
    assert common_facts([suspect(), *[suspect(1, 0)] * 100]) == ("a fact",)
    assert len(read) == 8
