"""The layouts of event rows against the C header they are read from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from builders import rows

from kleaktrace.core.events.records import ALLOCATION, FREE, SECOND_UNIT, UNIT, Batch, Context, Kind

RECORDS = (Path(__file__).parents[4] / "bpf" / "records.h").read_text()
C_SIZES = {"char": 1, "u8": 1, "u16": 2, "u32": 4, "s32": 4, "u64": 8}


def c_fields(structure: str) -> list[tuple[str, int, int]]:
    """(name, offset, size) of the members of a C structure without padding."""
    (body,) = re.findall(rf"struct {structure} {{(.*?)\n}};", RECORDS, re.DOTALL)
    fields, offset = [], 0
    for kind, names in re.findall(r"^\t(?:struct )?(\w+) ([\w, \[\]]+);", body, re.MULTILINE):
        if kind == "free_record":
            fields += c_fields(kind)
            offset = sum(size for _, _, size in fields)
            continue
        for declared in names.split(", "):
            name, _, length = declared.partition("[")
            size = C_SIZES[kind] * (16 if length else 1)
            assert offset % C_SIZES[kind] == 0, f"{name} would be padded"
            fields.append((name, offset, size))
            offset += size
    return fields


@pytest.mark.parametrize(("structure", "dtype"), [("free_record", FREE), ("allocation_record", ALLOCATION)])
def test_rows_have_the_fields_of_the_c_structures_after_the_ring_s_header(structure: str, dtype: np.dtype) -> None:
    ours = [(name, dtype.fields[name][1] - 8, dtype[name].itemsize) for name in dtype.names or ()]
    assert ours[0] == ("sequence", -8, 8)
    assert ours[1:] == c_fields(structure)


def test_a_free_takes_one_unit_and_an_allocation_two() -> None:
    assert (FREE.itemsize, ALLOCATION.itemsize) == (UNIT, 2 * UNIT)
    assert ALLOCATION.fields["second_unit"][1] == UNIT


def c_enum(name: str) -> dict[str, int]:
    (body,) = re.findall(rf"enum {name} {{(.*?)}};", RECORDS)
    values, following = {}, 0
    for item in body.split(","):
        word, _, value = item.strip().partition(" = ")
        following = int(value) if value else following
        values[word] = following
        following += 1
    return values


def test_kinds_and_contexts_are_those_of_the_c_side() -> None:
    assert {**{k.name: k for k in Kind}, "KINDS": len(Kind)} == c_enum("kind")
    assert {c.name.replace("UNKNOWN", "UNKNOWN_CONTEXT"): c for c in Context} == c_enum("context")
    assert f"#define SECOND_UNIT {int(SECOND_UNIT):#x}ULL" in RECORDS


def test_the_size_of_a_batch_counts_both() -> None:
    assert Batch(rows(ALLOCATION, {}, {}), rows(FREE, {})).size == 3
