# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths of entries, read from a memory that the test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import hide
from kleaktrace.edge.tracing.removed_entries import EntryKind, EntryPaths

ROOT, DIRECTORY, FILE = (0xFFFF888100010000 + (number << 12) for number in range(3))
NAMES = 0x100000
"""So far from each entry is its name."""


class MadeUpBtf:
    """Structures whose second word is the parent, by its newer name, and the third the name."""

    def offset(self, _: str, *path: str) -> int | None:
        return {"__parent": 8, "name": 16}.get(path[0])


class Memory:
    """Entries and names by plain address; nothing lies elsewhere."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.texts: dict[int, bytes] = {}

    def entry(self, at: int, parent: int, name: str) -> None:
        self.words |= {at + 8: parent, at + 16: at + NAMES}
        self.texts[at + NAMES] = name.encode() + b"\0rest of the memory"

    def read(self, objects: Sequence[tuple[int, int]]) -> list[U64]:
        return [self._at(hide(hidden), size) for hidden, size in objects]

    def _at(self, address: int, size: int) -> U64:
        if address in self.texts:
            return ~np.frombuffer(self.texts[address].ljust(size, b"x"), np.uint64)
        return np.array([hide(self.words[address])] if address in self.words else [], np.uint64)


@pytest.fixture
def memory() -> Memory:
    made = Memory()
    made.entry(ROOT, 0, "")
    made.entry(DIRECTORY, ROOT, "devices")
    made.entry(FILE, DIRECTORY, "a name of more than eight bytes")
    return made


def path_of(memory: Memory, address: int) -> Path | None:
    kind = EntryKind("made_by", "made_up", ("parent", "__parent"), Path("/sys"))
    return EntryPaths(kind, MadeUpBtf(), memory.read).of(address)  # type: ignore[arg-type]


def test_a_path_is_that_of_all_above(memory: Memory) -> None:
    assert path_of(memory, FILE) == Path("/sys/devices/a name of more than eight bytes")


def test_a_root_may_be_its_own_parent(memory: Memory) -> None:
    memory.entry(ROOT, ROOT, "/proc")
    assert path_of(memory, DIRECTORY) == Path("/sys/devices")


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_what_is_no_name_makes_no_path(memory: Memory, name: str) -> None:
    """It was freed meanwhile, and its memory is something else's."""
    memory.entry(DIRECTORY, ROOT, name)
    assert path_of(memory, FILE) is None


def test_what_can_not_be_read_makes_no_path_but_that_of_the_root(memory: Memory) -> None:
    del memory.words[FILE + 16]
    assert path_of(memory, FILE) is None
    assert path_of(memory, FILE + NAMES) == Path("/sys")


def test_a_circle_ends(memory: Memory) -> None:
    memory.entry(DIRECTORY, FILE, "devices")
    assert path_of(memory, FILE) is None
