# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads Arrow IPC streams of plain columns, such as captures hold, from anybody.

A capture may come from a stranger, and libraries trust the lengths and offsets that a stream states. Here each of them
is held against the bytes that are there; what does not fit raises ValueError with its position, and what lies about its
size costs no more memory than it brings. The format: https://arrow.apache.org/docs/format/Columnar.html; its metadata
are FlatBuffers (format/Message.fbs, format/Schema.fbs), of which only what is needed is read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.capture.tables import Column, Columns, ColumnType, TableLayout

Read = Callable[[int], bytes]
"""So many bytes of the stream, fewer only at its end."""

_CONTINUATION = 0xFFFFFFFF
_MOST_METADATA = 1 << 20
_MOST_BODY = 1 << 30
_MOST_FIELDS = 256

_SCHEMA, _RECORD_BATCH = 1, 3
"""Of the union MessageHeader."""

_TYPES = {
    (2, 8, 0): ColumnType.U8,
    (2, 16, 0): ColumnType.U16,
    (2, 32, 0): ColumnType.U32,
    (2, 64, 0): ColumnType.U64,
    (2, 64, 1): ColumnType.I64,
    (3, 2, 0): ColumnType.F64,
    (4, 0, 0): ColumnType.BYTES,
    (5, 0, 0): ColumnType.TEXT,
}
"""By the union Type, and of integers bits and sign, of floating-point numbers the precision."""

_INTEGER, _FLOAT = 2, 3


class _Object:
    """A table of a FlatBuffer: fields by number, as far as they lie inside the buffer."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._number("<i", at)
        self._vtable_length = self._number("<H", self._vtable)

    def _number(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self._data) - struct.calcsize(form):
            raise ValueError("its description points outside of itself")
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._vtable_length:
            return None
        offset = self._number("<H", self._vtable + slot)
        return self._at + offset if offset else None

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A number of the form that struct knows."""
        place = self._place(field)
        return default if place is None else self._number(form, place)

    def child(self, field: int) -> _Object | None:
        """A table in a table."""
        place = self._place(field)
        return None if place is None else _Object(self._data, place + self._number("<I", place))

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        """Where a vector begins, and how many items of so many bytes it has."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = place + self._number("<I", place)
        count = self._number("<I", start)
        if count * width > len(self._data) - start - 4:
            raise ValueError("its description points outside of itself")
        return start + 4, count

    def text(self, field: int) -> str:
        """A string."""
        start, count = self._vector(field, 1)
        return self._data[start : start + count].decode(errors="replace")

    def children(self, field: int) -> list[_Object]:
        """A vector of tables."""
        start, count = self._vector(field, 4)
        if count > _MOST_FIELDS:
            raise ValueError(f"it has {count} columns")
        places = range(start, start + 4 * count, 4)
        return [_Object(self._data, at + self._number("<I", at)) for at in places]

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        start, count = self._vector(field, 16)
        if count > 3 * _MOST_FIELDS:
            raise ValueError(f"it has {count} buffers")
        return [struct.unpack_from("<qq", self._data, start + 16 * number) for number in range(count)]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    type: ColumnType


def read_batches(table: TableLayout, read: Read) -> Iterator[Columns]:
    """The batches of a stream, up to its end or to where it breaks off; each has just the columns of the table.

    Columns that the stream has not, because it is older, are 0 or empty. Raises ValueError for what is no such stream.
    """
    fields: list[_Field] = []
    taken = 0
    while True:
        start = read(8)
        if len(start) < 8:
            return
        mark, length = struct.unpack("<II", start)
        if mark == _CONTINUATION and not length:
            return
        try:
            if mark != _CONTINUATION or length > _MOST_METADATA:
                raise ValueError("there is no Arrow message")
            metadata = read(length)
            if len(metadata) < length:
                return
            message = _Object(metadata, _root(metadata))
            body_length = message.number(3, "<q")
            if not 0 <= body_length <= _MOST_BODY:
                raise ValueError(f"a message states a body of {body_length} bytes")
            body = read(body_length)
            if len(body) < body_length:
                return
            kind, header = message.number(1, "<B"), message.child(2)
            if header is None:
                raise ValueError("a message without a header")
            if kind == _SCHEMA and not fields:
                fields = _fields(header)
            elif kind == _RECORD_BATCH and fields:
                yield _columns(table, fields, header, body)
            else:
                raise ValueError(f"a message of kind {kind}")
        except ValueError as problem:
            raise ValueError(f"{table.name}, byte {taken}: {problem}") from problem
        taken += 8 + length + body_length


def _root(metadata: bytes) -> int:
    if len(metadata) < 4:
        raise ValueError("an empty description")
    at: int = struct.unpack_from("<I", metadata)[0]
    return at


def _fields(schema: _Object) -> list[_Field]:
    if schema.number(0, "<h"):
        raise ValueError("it is big-endian")
    return [_Field(field.text(0), _type_of(field)) for field in schema.children(1)]


def _type_of(field: _Object) -> ColumnType:
    kind, detail = field.number(2, "<B"), field.child(3)
    if field.child(4) is not None or field.children(5) or detail is None:
        raise ValueError(f"column {field.text(0)!r} is nested")
    details = {_INTEGER: (detail.number(0, "<i"), detail.number(1, "<B")), _FLOAT: (detail.number(0, "<h"), 0)}
    found = _TYPES.get((kind, *details.get(kind, (0, 0))))
    if found is not None:
        return found
    raise ValueError(f"column {field.text(0)!r} is of a type that captures do not have")


def _columns(table: TableLayout, fields: list[_Field], batch: _Object, body: bytes) -> Columns:
    if batch.child(3) is not None:
        raise ValueError("its buffers are compressed")
    rows, nodes, buffers = batch.number(0, "<q"), batch.pairs(1), iter(batch.pairs(2))
    if len(nodes) != len(fields) or any(node != (rows, 0) for node in nodes):
        raise ValueError("its columns differ in length, or have nulls")
    if not 0 <= rows <= len(body):
        raise ValueError(f"it states {rows} rows")

    def taken() -> bytes:
        offset, length = next(buffers, (-1, 0))
        if not 0 <= offset <= offset + length <= len(body):
            raise ValueError("a column lies outside of the message")
        return body[offset : offset + length]

    found: dict[str, Column] = {}
    for field in fields:
        taken()  # which values are null: none is
        found[field.name] = _values(field, rows, taken)
        known = table.columns.get(field.name)
        if known not in (None, field.type):
            raise ValueError(f"column {field.name!r} is {field.type.value}, and not {known.value if known else ''}")
    return {name: found[name] if name in found else _nothing(kind, rows) for name, kind in table.columns.items()}


def _values(field: _Field, rows: int, taken: Callable[[], bytes]) -> Column:
    dtype = field.type.dtype
    if dtype is not None:
        return _numbers(taken(), dtype, rows)
    stated, data = taken(), taken()
    if not rows:
        return []
    offsets = _numbers(stated, np.dtype(np.int32), rows + 1)
    if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
        raise ValueError(f"column {field.name!r} has values outside of it")
    values = [data[start:end] for start, end in pairwise(offsets.tolist())]
    return values if field.type is ColumnType.BYTES else [value.decode(errors="replace") for value in values]


def _numbers(data: bytes, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    if len(data) < count * dtype.itemsize:
        raise ValueError("a column is too short")
    return np.frombuffer(data, dtype.newbyteorder("<"), count).astype(dtype, copy=False)


def _nothing(kind: ColumnType, rows: int) -> Column:
    match kind:
        case ColumnType.TEXT:
            return [""] * rows
        case ColumnType.BYTES:
            return [b""] * rows
    return np.zeros(rows, kind.dtype)
