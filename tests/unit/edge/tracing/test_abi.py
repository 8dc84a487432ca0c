# SPDX-License-Identifier: GPL-2.0-or-later
"""Every structure, enum and constant that both sides know, against what the C compiler makes of the headers."""

from __future__ import annotations

import re
import struct
from enum import IntEnum

import numpy as np
import pytest
from c_headers import compiled, definitions, enumerators

from kleaktrace.core.events.records import ALLOCATION, FREE, SECOND_UNIT, Context, Kind
from kleaktrace.core.unwind.stack_paths import MOST_SLOTS
from kleaktrace.edge.tracing import abi

LAYOUTS = [one for one in vars(abi).values() if isinstance(one, abi.Layout)]
RING_RECORDS: dict[str, np.dtype] = {"free_record": FREE, "allocation_record": ALLOCATION}

# Where a layout ends: what follows, and how long it is.
FOLLOWED_BY = {
    "stack_name": ("frames", 8 * abi.STACK_FRAMES),
    "stack_sample": ("words", None),
    "program_name": ("arguments", None),
    "module_page": ("data", abi.MODULE_PAGE_LENGTH),
    "stack_path": ("slots", abi.PATH_SLOTS * abi.PATH_SLOT.size),
}
KERNEL_SIDE_ONLY = {
    "counts": "of[COUNTERS], read as words",
    "contents": "CONTENTS_WORDS words",
    "moment": "two words",
    "text_range": "two words, written as such",
    "known_cache": "the programs' own",
    "recent_task": "the programs' own",
    "scratch": "the programs' own",
    "chunk": "the programs' own",
    "probed_call": "the programs' own",
    "call_frame": "the programs' own",
    "allocation": "the programs' own",
    "page_marks": "MARKS bytes, written by the programs only",
}
SHARED = ("free_record", "allocation_record", "stack_name", "stack_sample", "cache_name", "module_name", "program_name",
          "module_page", "path_slot", "stack_path", "contents", "moment", "text_range")  # fmt: skip


def c_members(structure: str) -> list[str]:
    body = definitions()[0][structure].partition("{")[2].rpartition("}")[0]
    body = re.sub(r"struct \{|union \{|\};", "", body)
    declared = re.findall(r"\b(?:struct \w+|char|[us]\d+) ([\w, \[\]+*/]+);", body)
    return [name.partition("[")[0].strip() for names in declared for name in names.split(",")]


@pytest.fixture(scope="module")
def c_side() -> tuple[dict[str, dict[str, tuple[int, int]]], dict[str, int], dict[str, int]]:
    structures = {name: c_members(name) for name in SHARED}
    expressions = ["SECOND_UNIT", "PATH_SLOTS", "FROM_END", "CONTENTS_WORDS", "STACK_DEPTH", "MODULE_PAGE_LENGTH"]
    expressions += ["DESCRIPTOR_BYTES", "MARKS", "PLACE"]
    enums = ("kind", "context", "name_type", "counter", "state", "text_ranges", "page_role")
    return compiled(structures, [*expressions, *(word for name in enums for word in enumerators(name))], SHARED)


def test_every_structure_of_the_c_side_is_compared_or_its_own() -> None:
    assert set(definitions()[0]) == set(SHARED) | set(KERNEL_SIDE_ONLY)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.structure)
def test_layouts_are_those_of_the_structures(layout: abi.Layout, c_side) -> None:
    members, _, sizes = c_side
    ours, offset = {}, 0
    for name, code in layout.members.items():
        size = struct.calcsize("=" + code)
        ours[name] = (offset, size)
        offset += size
    theirs = members[layout.structure]
    assert ours == {name: theirs[name] for name in ours}
    if layout.structure in FOLLOWED_BY:
        name, length = FOLLOWED_BY[layout.structure]
        assert theirs[name][0] == layout.size
        assert length in (None, theirs[name][1])
    else:
        assert layout.size == sizes[layout.structure]


@pytest.mark.parametrize(("structure", "dtype"), RING_RECORDS.items())
def test_event_rows_are_those_of_the_structures_after_the_ring_s_header(
    structure: str, dtype: np.dtype, c_side
) -> None:
    members, _, sizes = c_side
    theirs = dict(members[structure])
    if structure == "allocation_record":
        theirs.pop("first")
        theirs |= members["free_record"]
    ours = {name: (dtype.fields[name][1] - 8, dtype[name].itemsize) for name in dtype.names or ()}
    assert ours.pop("sequence") == (-8, 8)
    assert ours == theirs
    assert dtype.itemsize - 8 == sizes[structure]


@pytest.mark.parametrize(
    ("enum", "name", "last"),
    [(Kind, "kind", "KINDS"), (Context, "context", None), (abi.NameType, "name_type", None),
     (abi.Counter, "counter", "COUNTERS"), (abi.State, "state", "STATES"), (abi.PageRole, "page_role", None)],
)  # fmt: skip
def test_enums_are_those_of_the_c_side(enum: type[IntEnum], name: str, last: str | None, c_side) -> None:
    values = c_side[1]
    theirs = {word.replace("UNKNOWN_CONTEXT", "UNKNOWN"): values[word] for word in enumerators(name)}
    if last is not None:
        assert theirs.pop(last) == len(enum)
    assert {one.name: int(one) for one in enum} == theirs


def test_constants_are_those_of_the_c_side(c_side) -> None:
    values = c_side[1]
    assert values["SECOND_UNIT"] % (1 << 64) == int(SECOND_UNIT)
    assert (values["PATH_SLOTS"], MOST_SLOTS) == (abi.PATH_SLOTS, abi.PATH_SLOTS)
    assert values["FROM_END"] == abi.FROM_END
    assert values["CONTENTS_WORDS"] == abi.CONTENTS_WORDS
    assert values["STACK_DEPTH"] + 1 == abi.STACK_FRAMES
    assert (values["DESCRIPTOR_BYTES"], values["MARKS"], values["PLACE"]) == (
        *(abi.DESCRIPTOR_BYTES, abi.MARKS, abi.PLACE),
    )
    assert values["MODULE_PAGE_LENGTH"] == abi.MODULE_PAGE_LENGTH
