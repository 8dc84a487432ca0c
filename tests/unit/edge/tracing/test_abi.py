# SPDX-License-Identifier: GPL-2.0-or-later
"""Every structure, enum and constant that both sides know, against what the C compiler makes of the sources."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from types import ModuleType

import numpy as np
import pytest
from c_headers import INJECTION, TRACING, CSide, Structure

from kleaktrace.core.events import records
from kleaktrace.core.events.records import ALLOCATION, FREE, Context, Kind
from kleaktrace.core.symbols import executed_programs, symbol_table
from kleaktrace.core.unwind import stack_paths
from kleaktrace.edge.injection import abi as injection
from kleaktrace.edge.tracing import abi as tracing
from kleaktrace.edge.tracing import filters, module_symbols

RING_RECORDS: dict[str, np.dtype] = {"free_record": FREE, "allocation_record": ALLOCATION}

# Where a layout ends: what follows, and how long it is.
FOLLOWED_BY = {
    "stack_name": ("frames", 8 * tracing.STACK_FRAMES),
    "stack_sample": ("words", 8 * stack_paths.WINDOW_WORDS),
    "program_name": ("arguments", executed_programs.MOST_BYTES),
    "module_page": ("data", tracing.MODULE_PAGE_LENGTH),
    "stack_path": ("slots", tracing.PATH_SLOTS * tracing.PATH_SLOT.size),
    "injected_failure": ("frames", 8 * injection.DEPTH),
}

ONE_ARRAY = {"contents": 8 * tracing.CONTENTS_WORDS, "page_marks": tracing.MARKS}
"""Structures that are an array and nothing else, and their bytes."""

OF_TRACING = (
    *("free_record", "allocation_record", "stack_name", "stack_sample", "cache_name", "module_name", "program_name"),
    *("module_page", "path_slot", "stack_path", "contents", "moment", "text_range", "counts", "page_marks"),
)
OF_INJECTION = ("place_range", "injection_order", "injected_failure", "text_page")
PROGRAMS_OWN = {
    "known_cache", "recent_task", "scratch", "chunk", "probed_call", "call_frame", "allocation", "stack_finding",
    "mark_pair", "recorded",
}  # fmt: skip
"""Structures that user space neither reads nor writes."""

ENUMS: list[tuple[CSide, type[IntEnum], str, str | None]] = [
    (TRACING, Kind, "kind", "KINDS"),
    (TRACING, Context, "context", None),
    (TRACING, tracing.NameType, "name_type", None),
    (TRACING, tracing.Counter, "counter", "COUNTERS"),
    (TRACING, tracing.State, "state", "STATES"),
    (TRACING, tracing.PageRole, "page_role", None),
    (TRACING, tracing.ModuleText, "text_ranges", "TEXT_RANGES"),
    (INJECTION, injection.Mode, "injection_mode", None),
    (INJECTION, injection.State, "injection_state", "STATES"),
    (INJECTION, injection.Injected, "injected", None),
]
"""Ours, theirs, and how theirs ends with the number of all."""

ENUMS_OF_PROGRAMS = {"program"}

CONSTANTS: dict[str, tuple[CSide, int]] = {
    "SECOND_UNIT": (TRACING, int(records.SECOND_UNIT)),
    "sizeof(u64) + sizeof(struct free_record)": (TRACING, records.UNIT),
    "WINDOW_WORDS": (TRACING, stack_paths.WINDOW_WORDS),
    "MOST_MOVED": (TRACING, 8 * stack_paths.MOST_MOVED),
    "PATH_SLOTS": (TRACING, stack_paths.MOST_SLOTS),
    "ARGUMENTS_LENGTH": (TRACING, executed_programs.MOST_BYTES),
    "COMM_LENGTH - 1": (TRACING, filters._COMM_LENGTH),
    "MODULE_NAME_LENGTH - 1": (TRACING, filters._LONGEST_NAME),
    "CACHE_NAME_LENGTH - 1": (TRACING, filters._LONGEST_NAME),
    "TABLE_PAGES": (TRACING, module_symbols._MOST_PAGES),
    "ELF_SYMBOL_LENGTH": (TRACING, symbol_table.ELF_SYMBOL.itemsize),
    "8 * COMM_WORDS": (INJECTION, records.ALLOCATION["comm"].itemsize),
}
"""By the C expression, those that stand elsewhere."""

IN_C = {
    "STACK_FRAMES": "STACK_DEPTH + 1",
    "FUNCTION_RANGES": "FUNCTIONS",
    "MACHINERY_RANGES": "MACHINERY",
    "NAME_BYTES": "8 * NAME_WORDS",
    "PAGE": "1 << PAGE_SHIFT_",
}
"""What constants of the two modules are called in C, where it is another name."""


def of_type(module: ModuleType, kind: type) -> dict[str, object]:
    return {name: one for name, one in vars(module).items() if isinstance(one, kind) and name.isupper()}


def sides() -> list[tuple[CSide, ModuleType]]:
    return [(TRACING, tracing), (INJECTION, injection)]


LAYOUTS = [layout for _, module in sides() for layout in of_type(module, tracing.Layout).values()]


@pytest.fixture(scope="module")
def c_side() -> dict[str, Structure]:
    return TRACING.layouts(OF_TRACING) | INJECTION.layouts(OF_INJECTION)


def test_every_structure_of_the_c_side_is_compared_or_its_own() -> None:
    assert {*TRACING.structures, *INJECTION.structures} == {*OF_TRACING, *OF_INJECTION} | PROGRAMS_OWN
    assert {*OF_TRACING, *OF_INJECTION} == {layout.structure for layout in LAYOUTS} | {*RING_RECORDS, *ONE_ARRAY}


def test_every_enum_of_the_c_side_is_compared_or_its_own() -> None:
    for side, _ in sides():
        compared = {name for of, _, name, _ in ENUMS if of is side}
        assert compared == set(side.enums) - ENUMS_OF_PROGRAMS


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.structure)
def test_layouts_are_those_of_the_structures(layout: tracing.Layout, c_side: dict[str, Structure]) -> None:
    ours, offset = {}, 0
    for name, code in layout.members.items():
        size = struct.calcsize("=" + code)
        ours[name] = (offset, size)
        offset += size
    theirs = c_side[layout.structure]
    assert ours == {name: theirs.members[name] for name in ours}
    if layout.structure in FOLLOWED_BY:
        name, length = FOLLOWED_BY[layout.structure]
        assert theirs.members[name] == (layout.size, length)
    else:
        assert layout.size == theirs.size


@pytest.mark.parametrize(("structure", "size"), ONE_ARRAY.items())
def test_arrays_have_the_same_length(structure: str, size: int, c_side: dict[str, Structure]) -> None:
    assert list(c_side[structure].members.values()) == [(0, size)]


@pytest.mark.parametrize(("structure", "dtype"), RING_RECORDS.items())
def test_event_rows_are_those_of_the_structures_after_the_ring_s_header(
    structure: str, dtype: np.dtype, c_side: dict[str, Structure]
) -> None:
    theirs = dict(c_side[structure].members)
    if structure == "allocation_record":
        theirs.pop("first")
        theirs |= c_side["free_record"].members
    ours = {name: (dtype.fields[name][1] - 8, dtype[name].itemsize) for name in dtype.names or ()}
    assert ours.pop("sequence") == (-8, 8)
    assert ours == theirs
    assert dtype.itemsize - 8 == c_side[structure].size


@pytest.mark.parametrize(("side", "enum", "name", "last"), ENUMS)
def test_enums_are_those_of_the_c_side(side: CSide, enum: type[IntEnum], name: str, last: str | None) -> None:
    words = side.enumerators(name)
    theirs = dict(zip(words, side.values(*words), strict=True))
    if "UNKNOWN_CONTEXT" in theirs:  # another UNKNOWN would be too many
        theirs["UNKNOWN"] = theirs.pop("UNKNOWN_CONTEXT")
    if last is not None:
        assert theirs.pop(last) == len(enum)
    assert {one.name: int(one) for one in enum} == theirs


@pytest.mark.parametrize(("side", "module"), sides(), ids=["tracing", "injection"])
def test_constants_are_those_of_the_c_side(side: CSide, module: ModuleType) -> None:
    ours = of_type(module, int)
    assert ours == dict(zip(ours, side.values(*(IN_C.get(name, name) for name in ours)), strict=True))


@pytest.mark.parametrize("expression", CONSTANTS)
def test_constants_that_stand_elsewhere_are_those_of_the_c_side(expression: str, c_side: dict[str, Structure]) -> None:
    side, ours = CONSTANTS[expression]
    plain = re.sub(r"sizeof\(struct (\w+)\)", lambda found: str(c_side[found[1]].size), expression)
    assert side.values(plain) == [ours]


@pytest.mark.parametrize("value", [0, 1, 0xFFFF888100010000, (1 << 64) - 1])
def test_numbers_are_mixed_alike(value: int) -> None:
    assert TRACING.values(f"mix({value:#x}ULL)") == [stack_paths.mix(value)]
