# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams that nanoarrow wrote are read; what was made to mislead is refused."""

from __future__ import annotations

import io
import random
from contextlib import suppress

import nanoarrow
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nanoarrow.ipc import StreamWriter

from kleaktrace.core.capture.arrow_stream import read_batches
from kleaktrace.core.capture.tables import Columns, ColumnType, TableLayout
from kleaktrace.edge.capture.capture_files import _struct

EVERY = TableLayout("every", {kind.name: kind for kind in ColumnType})


def written(table: TableLayout, *batches: Columns) -> bytes:
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        for batch in batches:
            writer.write_array(_struct(table, batch))
    return out.getvalue()


def read(table: TableLayout, data: bytes) -> list[dict[str, object]]:
    batches = read_batches(table, io.BytesIO(data).read)
    return [{k: c.tolist() if isinstance(c, np.ndarray) else list(c) for k, c in batch.items()} for batch in batches]


numbers = {
    kind.name: st.integers(int(np.iinfo(kind.dtype).min), int(np.iinfo(kind.dtype).max))
    for kind in ColumnType
    if kind.dtype is not None and kind is not ColumnType.F64
}
row = st.fixed_dictionaries(
    {**numbers, "F64": st.floats(allow_nan=False), "TEXT": st.text(max_size=9), "BYTES": st.binary(max_size=9)}
)


@given(st.lists(st.lists(row, max_size=5), min_size=1, max_size=4))
@pytest.mark.thorough
def test_what_was_written_is_read(batches: list[list[dict[str, object]]]) -> None:
    columns = [{name: [one[name] for one in batch] for name in EVERY.columns} for batch in batches]
    assert read(EVERY, written(EVERY, *columns)) == columns


def batch(count: int) -> Columns:
    return {
        name: [f"é{number}" for number in range(count)]
        if kind is ColumnType.TEXT
        else [b"x"] * count
        if kind is ColumnType.BYTES
        else np.arange(count)
        for name, kind in EVERY.columns.items()
    }


def test_a_stream_that_breaks_off_is_read_up_to_its_last_whole_batch() -> None:
    data = written(EVERY, batch(3), batch(2), batch(4))
    lengths = [len(read(EVERY, data[:end])) for end in range(len(data) + 1)]
    assert lengths == sorted(lengths)
    assert set(lengths) == {0, 1, 2, 3}


def test_columns_that_an_older_stream_has_not_are_empty_and_those_of_a_newer_one_are_left_alone() -> None:
    older = TableLayout("every", {"U32": ColumnType.U32, "NEW": ColumnType.U8})
    wanted = TableLayout("every", {"U32": ColumnType.U32, "TEXT": ColumnType.TEXT, "BYTES": ColumnType.BYTES})
    data = written(older, {"U32": [1, 2], "NEW": [3, 4]})
    assert read(wanted, data) == [{"U32": [1, 2], "TEXT": ["", ""], "BYTES": [b"", b""]}]


def test_a_column_of_another_type_is_refused() -> None:
    data = written(TableLayout("every", {"U32": ColumnType.U64}), {"U32": [1]})
    with pytest.raises(ValueError, match=r"every, byte \d+: column 'U32' is uint64, and not uint32"):
        read(EVERY, data)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (nanoarrow.struct({"U32": nanoarrow.list_(nanoarrow.uint32())}), "nested"),
        (nanoarrow.struct({"U32": nanoarrow.date32()}), "do not have"),
        (nanoarrow.struct({"U32": nanoarrow.int32()}), "do not have"),
    ],
)
def test_what_captures_never_have_is_refused(schema: nanoarrow.Schema, said: str) -> None:
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_stream(nanoarrow.c_array_stream([], schema))
    with pytest.raises(ValueError, match=said):
        read(EVERY, out.getvalue())


def test_nulls_are_refused() -> None:
    column = nanoarrow.c_array([None], nanoarrow.uint32())
    array = nanoarrow.c_array_from_buffers(nanoarrow.struct({"U32": nanoarrow.uint32()}), 1, [None], children=[column])
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_array(array)
    with pytest.raises(ValueError, match="nulls"):
        read(EVERY, out.getvalue())


@pytest.mark.parametrize("data", [b"", b"ARROW1\0\0", b"\xff" * 8, b"\xff\xff\xff\xff\0\0\x10\0", b"x" * 99])
def test_what_is_no_stream_has_no_batches(data: bytes) -> None:
    found: list[object] = []
    with suppress(ValueError):
        found = list(read(EVERY, data))
    assert not found


def test_whatever_is_changed_it_is_read_or_refused() -> None:
    data = written(EVERY, batch(3), batch(2))
    chosen = random.Random(1)
    refused = 0
    for _ in range(3000):
        changed = bytearray(data)
        for _ in range(chosen.choice([1, 1, 2, 4])):
            changed[chosen.randrange(len(changed))] = chosen.choice([0, 1, 127, 128, 255, chosen.randrange(256)])
        try:
            read(EVERY, bytes(changed))
        except ValueError:
            refused += 1
    assert refused


def test_a_stated_length_takes_no_memory_that_does_not_come() -> None:
    asked = []
    data = io.BytesIO(written(EVERY, batch(3)))

    def reading(size: int) -> bytes:
        asked.append(size)
        return data.read(size)

    list(read_batches(EVERY, reading))
    assert max(asked) < 4096
