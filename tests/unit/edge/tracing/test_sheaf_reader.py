# SPDX-License-Identifier: GPL-2.0-or-later
"""What sheaves still point to, read from a memory that the test makes up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import hide
from kleaktrace.edge.tracing.sheaf_reader import SheafLayout, SheafReader, Unreadable, sheaf_layout

LAYOUT = SheafLayout(cpu_sheaves=0, capacity=12, next_cache=16, of_cpu=(8, 16, 24), size=24, objects=32)
LIST, OFFSETS = 0xFFFFFFFF82000000, 0xFFFFFFFF82001000
CACHE, NONE, PER_CPU = 0xFFFF888100001000, 0xFFFF888100002000, 0x2D000
CPUS = (0xFFFF888200000000, 0xFFFF888200100000)
MAIN, SPARE, OTHER_MAIN, BY_RCU = (0xFFFF888100010000 + (number << 12) for number in range(4))
A, B, C, D, E, F = (0xFFFF888100200000 + 256 * number for number in range(6))


class Memory:
    """Words by plain address; nothing lies elsewhere. The second cache has no sheaves."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.put(LIST, CACHE + LAYOUT.next_cache)
        self.put(OFFSETS, *CPUS)
        self.put(CACHE, PER_CPU, 7 | 3 << 32, NONE + LAYOUT.next_cache)
        self.put(NONE, PER_CPU, 7, LIST)
        self.put(CPUS[0] + PER_CPU, 0, MAIN, SPARE, BY_RCU)
        self.put(CPUS[1] + PER_CPU, 0, OTHER_MAIN, 0, 0)
        self.sheaf(MAIN, 1, A, B, 0)
        self.sheaf(SPARE, 3, C, D, A)
        self.sheaf(BY_RCU, 2, C, D, F)
        self.sheaf(OTHER_MAIN, 0, E, B, 0)

    def put(self, at: int, *words: int) -> None:
        self.words.update({at + 8 * number: word for number, word in enumerate(words)})

    def sheaf(self, at: int, used: int, *objects: int) -> None:
        self.put(at, 0, 0, CACHE, used | 1 << 32, *objects)

    def read(self, objects: Sequence[tuple[int, int]]) -> list[U64]:
        return [self._at(hide(hidden), size // 8) for hidden, size in objects]

    def _at(self, address: int, count: int) -> U64:
        places = [address + 8 * number for number in range(count)]
        if count > 512 or not set(places) <= set(self.words):
            return np.zeros(0, np.uint64)
        return np.array([hide(self.words[place]) for place in places], np.uint64)


def found(memory: Memory, offsets: int | None = OFFSETS, cpus: int = 2) -> set[int]:
    reader = SheafReader(LAYOUT, LIST, offsets, cpus, memory.read)
    return {hide(hidden) for hidden in reader.handed_out().tolist()} - {0}


def test_what_lies_behind_the_end_of_any_cpus_sheaf_was_handed_out() -> None:
    assert found(Memory()) == {B, E, F}


def test_without_offsets_there_is_one_cpu() -> None:
    memory = Memory()
    memory.put(PER_CPU, 0, OTHER_MAIN, 0, 0)
    assert found(memory, offsets=None, cpus=1) == {E, B}


def test_as_many_cpus_as_there_may_be_are_read_piece_by_piece() -> None:
    memory, cpus = Memory(), 1300
    memory.put(OFFSETS, *[CPUS[0]] * (cpus - 1), CPUS[1])
    assert found(memory, cpus=cpus) == {B, E, F}


def test_a_machine_without_caches_has_none() -> None:
    memory = Memory()
    memory.put(LIST, LIST)
    assert found(memory) == set()


@pytest.mark.parametrize("lacks", [MAIN + 40, OTHER_MAIN + 24, CPUS[1] + PER_CPU, NONE + 16, OFFSETS + 8, LIST])
def test_what_can_not_be_read_is_not_taken_for_nothing(lacks: int) -> None:
    memory = Memory()
    del memory.words[lacks]
    with pytest.raises(Unreadable):
        found(memory)


def test_a_list_that_changes_while_it_is_read_has_an_end() -> None:
    memory = Memory()
    memory.put(NONE + 16, NONE + LAYOUT.next_cache)
    with pytest.raises(Unreadable):
        found(memory)


class FakeBtf:
    """Knows no member of one structure."""

    def __init__(self, without: str) -> None:
        self._without = without

    def offset(self, struct: str, member: str) -> int | None:
        return None if struct == self._without else len(member)


@pytest.mark.parametrize("without", ["slab_sheaf", "slub_percpu_sheaves"])
def test_a_kernel_before_sheaves_has_no_layout(without: str) -> None:
    assert sheaf_layout(FakeBtf(without)) is None  # type: ignore[arg-type]
    assert sheaf_layout(FakeBtf("")) == SheafLayout(11, 14, 4, (4, 5, 8), 4, 7)  # type: ignore[arg-type]
