# SPDX-License-Identifier: GPL-2.0-or-later
"""What kmemleak has at an address counts only if it is what was asked for."""

from __future__ import annotations

import pytest
from made_up_kmemleak import MadeUpKmemleak

from kleaktrace.commands.judging import answered
from kleaktrace.core.events.records import Kind
from kleaktrace.core.evidence.evidence import Question

A = 0xFFFF888100010000
HZ = 250.0
WRAP = 1 << 32


@pytest.mark.parametrize(
    ("allocated", "stamp", "answer"),
    [
        (5_000, 5_000, True),
        (5_000, 5_002, True),
        (5_000, 5_003, False),  # later: another, of which there was no event
        (5_000, WRAP + 5_000, True),  # events have the low 32 bits
        (3, WRAP - 10, True),
        (WRAP - 10, WRAP + 3, False),
        (5_000 + 1_000, 5_000, True),  # an event may be late
        (5_000, None, None),  # the kernel's log can't be read
    ],
)
def test_an_answer_is_of_the_object_that_was_asked_for(allocated: int, stamp: int | None, answer: bool | None) -> None:
    kmemleak, question = MadeUpKmemleak(), Question(A, Kind.KMALLOC, allocated)
    kmemleak.tracked = {A: stamp}
    known = answered(kmemleak, [question], HZ)  # type: ignore[arg-type]
    assert known.get(Question(A, Kind.KMALLOC)) is answer


def test_kmemleak_knows_a_vmalloc_when_its_pages_are_there() -> None:
    kmemleak, question = MadeUpKmemleak(), Question(A, Kind.VMALLOC, 5_000)
    kmemleak.tracked = {A: 5_500}
    assert answered(kmemleak, [question], HZ) == {question: True}  # type: ignore[arg-type]
    kmemleak.tracked = {A: 5_000 + 5 * int(HZ)}
    assert answered(kmemleak, [question], HZ) == {question: False}  # type: ignore[arg-type]


def test_where_there_is_nothing_it_was_freed() -> None:
    known = answered(MadeUpKmemleak(), [Question(A, Kind.KMALLOC, 5)], HZ)  # type: ignore[arg-type]
    assert known == {Question(A, Kind.KMALLOC): False}
