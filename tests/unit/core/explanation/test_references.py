# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct

import pytest

from kleaktrace.core.explanation.conclusions import explain
from kleaktrace.core.explanation.references import references
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.kmemleak_text import KmemleakText, Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

A, B, C = 0xFFFFFF8106C86000, 0xFFFFFF8103BC01C0, 0xFFFFFF8103BA6760


def suspect(address: int, *words: int, form: str = "<Q", size: int = 64, kind: str = "slab") -> Suspect:
    frame = KmemleakFrame(None, f"asker_{address:x}", 1, 2)  # each a group of its own
    contents = b"".join(struct.pack(form, word) for word in words)
    return Suspect(address, size, SuspectKind(kind), "tool", 7, 9, None, None, (frame,), contents=contents)


def test_who_points_to_whom() -> None:
    found = references([suspect(A, 2, 0, B, C), suspect(B, 0, A + 8), suspect(C, 5, 0)])
    assert found.targets == {A: (C, B), B: (A,)}
    assert found.sources == {B: (A,), C: (A,), A: (B,)}


@pytest.mark.parametrize(
    ("form", "owner", "target"),
    [
        ("<Q", A, B),
        (">Q", 0xC000201C382A1000, 0xC0002001F0C03900),
        ("<I", 0xC674CA80, 0xC6755580),
        (">I", 0x80C93C80, 0x80C93D80),
        (">Q", 0x9A5B8000, 0x9A5C0000),
    ],
)
def test_machines_of_all_kinds(form: str, owner: int, target: int) -> None:
    assert references([suspect(owner, 0, target, form=form), suspect(target)]).targets == {owner: (target,)}


@pytest.mark.parametrize(
    "suspects",
    [
        [],
        [suspect(A, A, A + 16)],
        [suspect(A, B + 64, B - 1), suspect(B)],
        [suspect(A, 0x10), suspect(0x10)],
        [suspect(A, 0x1234567), suspect(0x1234567, kind="phys")],
        [suspect(A, 0, 0), suspect(B)],
    ],
)
def test_what_points_to_no_other(suspects: list[Suspect]) -> None:
    assert references(suspects).targets == {}


def test_what_to_mend_first() -> None:
    conclusions = explain(KmemleakText((suspect(A, B, C, size=2048), suspect(B, size=32), suspect(C, size=16)), ()))
    owner, *owned = conclusions.conclusions
    assert owner.hints[0] == f"points to 0x{C:x}, 0x{B:x} of this text: mend this one first, they are lost with it"
    assert [one.hints[0] for one in owned] == 2 * [f"0x{A:x} of this text points to it: mend that first"]


def test_a_chain_has_one_beginning() -> None:
    middle = explain(KmemleakText((suspect(A, B), suspect(B, C), suspect(C)), ())).conclusions[1]
    assert middle.hints[:2] == (
        f"0x{A:x} of this text points to it: mend that first",
        f"points to 0x{C:x} of this text",
    )


def test_a_circle_has_none() -> None:
    for one in explain(KmemleakText((suspect(A, B), suspect(B, A)), ())).conclusions:
        assert "point to each other" in one.hints[0]
