# SPDX-License-Identifier: GPL-2.0-or-later
"""What sheaves still point to, read from a memory that the test makes up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import hide
from kleaktrace.edge.tracing.sheaf_reader import SheafLayout, handed_out, sheaf_layout

LAYOUT = SheafLayout(cpu_sheaves=0, capacity=8, of_cpu=(8, 16), size=24, objects=32)
CACHE, PER_CPU = 0xFFFF888100001000, 0x2D000
CPUS = (0xFFFF888200000000, 0xFFFF888200100000)
MAIN, SPARE, OTHER_MAIN = 0xFFFF888100010000, 0xFFFF888100011000, 0xFFFF888100012000
A, B, C, D, E = (0xFFFF888100200000 + 256 * number for number in range(5))


class Memory:
    """Words by plain address; nothing lies elsewhere."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {CACHE: PER_CPU, CACHE + 8: 3 | 7 << 32}
        for cpu, main, spare in ((0, MAIN, SPARE), (1, OTHER_MAIN, 0)):
            self.put(CPUS[cpu] + PER_CPU, 0, main, spare)
        self.sheaf(MAIN, 1, A, B, 0)
        self.sheaf(SPARE, 3, C, D, A)
        self.sheaf(OTHER_MAIN, 0, E, B, 0)

    def put(self, at: int, *words: int) -> None:
        self.words.update({at + 8 * number: word for number, word in enumerate(words)})

    def sheaf(self, at: int, used: int, *objects: int) -> None:
        self.put(at, 0, 0, CACHE, used | 1 << 32, *objects)

    def read(self, objects: Sequence[tuple[int, int]]) -> list[U64]:
        return [self._at(hide(hidden), size // 8) for hidden, size in objects]

    def _at(self, address: int, count: int) -> U64:
        places = [address + 8 * number for number in range(count)]
        if not set(places) <= set(self.words):
            return np.zeros(0, np.uint64)
        return np.array([hide(self.words[place]) for place in places], np.uint64)


def found(memory: Memory, *caches: int) -> set[int]:
    return {hide(hidden) for hidden in handed_out(LAYOUT, caches, CPUS, memory.read).tolist()} - {0}


def test_what_lies_behind_the_end_of_any_cpus_sheaf_was_handed_out() -> None:
    assert found(Memory(), CACHE) == {B, E}


def test_a_cache_without_sheaves_and_one_that_is_gone_have_none() -> None:
    memory = Memory()
    memory.put(CACHE + 8, 0)
    assert found(memory, CACHE) == set()
    assert found(memory, 0xFFFF888100009000) == set()
    assert found(memory) == set()


def test_a_sheaf_that_can_not_be_read_says_nothing() -> None:
    memory = Memory()
    del memory.words[MAIN + 40]
    assert found(memory, CACHE) == {B, E}
    del memory.words[OTHER_MAIN + 40]
    assert found(memory, CACHE) == set()


class FakeBtf:
    """Knows no member of one structure."""

    def __init__(self, without: str) -> None:
        self._without = without

    def offset(self, struct: str, member: str) -> int | None:
        return None if struct == self._without else len(member)


@pytest.mark.parametrize("without", ["slab_sheaf", "slub_percpu_sheaves"])
def test_a_kernel_before_sheaves_has_no_layout(without: str) -> None:
    assert sheaf_layout(FakeBtf(without)) is None  # type: ignore[arg-type]
    assert sheaf_layout(FakeBtf("")) == SheafLayout(11, 14, (4, 5), 4, 7)  # type: ignore[arg-type]
