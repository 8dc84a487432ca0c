# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a capture: a directory with a compressed Arrow IPC stream for each table, which are only added to.

Of tables in parts (`tables.PARTS`) each part is a stream, and the oldest ones are deleted. Every stream is a gzip file,
flushed with each batch: it can be read up to where it breaks off. `capture.json` says what it is, and is there first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kleaktrace import __version__
from kleaktrace.core.capture.recording_log import Flush
from kleaktrace.core.capture.tables import (
    ENDINGS,
    EVENTS,
    EVENTS_PLAIN,
    FLUSHES,
    FORMAT,
    PARTS,
    PARTS_KEPT,
    ROWS,
    TABLES,
    Column,
    Columns,
    ColumnType,
    TableLayout,
    rows_in,
)
from kleaktrace.errors import EnvironmentRefusal, UsageError

if TYPE_CHECKING:
    from nanoarrow.c_array import CArray

DESCRIPTION = "capture.json"
_LEVEL, _LEVEL_OF_PARTS = 4, 1
"""What is kept for good is little, and worth a little more time."""
_LEVELS = {EVENTS.name: 1, EVENTS_PLAIN.name: 0, **dict.fromkeys(PARTS, _LEVEL_OF_PARTS)}
_STRATEGY, _STRATEGY_OF_EVENTS = zlib.Z_DEFAULT_STRATEGY, zlib.Z_RLE
"""Of all events, there is no more to be found than which bytes are frequent, or the same as the one before."""
_GZIP = 31
"""Bits of the window, and that there is a header (zlib.h, deflateInit2)."""
_MEMORY = 8
"""zlib's default."""

_SMALL_PART = 2 << 20
_BYTES_A_ROW = 9
"""What is outstanding takes about so much in a part."""
_MOST_ANEW = 1 << 22
"""To tell of more at once would take more than two seconds, for half of one of which the drain would wait."""


def stream_name(table: TableLayout, part: int = 0) -> str:
    """The file of a table, or of one part of it."""
    return f"{table.name}.{part}.arrows.gz" if table.name in PARTS else f"{table.name}.arrows.gz"


class CaptureFiles:
    """A new capture of the first flush; under its name there is a capture that can be read, or nothing.

    Raises `UsageError` if it can't be made there; later, writing raises OSError.
    """

    def __init__(self, path: Path, first: Flush) -> None:
        self.bytes = 0
        """Written so far."""
        self._streams: dict[str, _Stream] = {}
        self._parts = dict.fromkeys(PARTS_KEPT, 0)
        self._bytes_of_part = 0
        if path.exists():
            raise UsageError(f"{path} exists", "give the capture another name")
        try:
            self._path = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            description = {"kleaktrace_capture": FORMAT, "program": f"kleaktrace {__version__}"}
            (self._path / DESCRIPTION).touch(0o600)
            (self._path / DESCRIPTION).write_text(json.dumps(description) + "\n")
            self.add(first)
            self._path = self._path.rename(path)
        except OSError as error:
            self.release()
            shutil.rmtree(self._path, ignore_errors=True)
            raise _unwritable(path, error) from error

    def add(self, flush: Flush) -> None:
        """Add all of a flush; the row that makes it count comes last. Then what it has made useless can go."""
        parts = {column: int(flush.row[column][0]) for column in PARTS_KEPT}
        begun = [column for column, part in parts.items() if part != self._parts[column]]
        for table in (table for table in TABLES if PARTS.get(table.name) in begun):
            self._end_stream(table)
        if "rows_part" in begun:
            self._bytes_of_part = 0
        self._parts = parts
        for table, batch in [*flush.batches, (FLUSHES, flush.row)]:
            self._add_batch(table, batch)
        for column in begun:
            self._delete_part(column, parts[column] - PARTS_KEPT[column])

    def worth_telling_anew(self, outstanding: int) -> bool:
        """Whether what is outstanding would take far less room if it were told anew; so many allocations are."""
        worth = _SMALL_PART + 4 * _BYTES_A_ROW * outstanding
        return self._bytes_of_part > worth and outstanding <= _MOST_ANEW

    def _add_batch(self, table: TableLayout, batch: Columns) -> None:
        if table.name not in self._streams:
            name = stream_name(table, self._parts.get(PARTS.get(table.name, ""), 0))
            self._streams[table.name] = _Stream(self._path / name, table)
        written = self._streams[table.name].add(batch)
        self.bytes += written
        self._bytes_of_part += written if table in ROWS else 0

    def _end_stream(self, table: TableLayout) -> None:
        stream = self._streams.pop(table.name, None)
        if stream is not None:
            try:
                self.bytes += stream.end()
            finally:
                stream.release()

    def _delete_part(self, column: str, part: int) -> None:
        """In this order: the reader goes by whether the first of these tables is there."""
        for table in (*ROWS, ENDINGS):
            if PARTS[table.name] == column and part >= 0:
                (self._path / stream_name(table, part)).unlink(missing_ok=True)

    def close(self) -> None:
        """End all streams."""
        for stream in self._streams.values():
            self.bytes += stream.end()
        self.release()

    def release(self) -> None:
        """Close the files as they are. May be called twice."""
        while self._streams:
            self._streams.popitem()[1].release()


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: {error.strerror}", "give a name where there is room, and that can be written")


class _Stream:
    """One table's file. What is written to it is compressed, and in the file when `add` returns."""

    def __init__(self, path: Path, table: TableLayout) -> None:
        from nanoarrow.ipc import StreamWriter

        self._table = table
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        level = _LEVELS.get(table.name, _LEVEL)
        strategy = _STRATEGY_OF_EVENTS if table == EVENTS else _STRATEGY
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP, _MEMORY, strategy)
        self._waiting: list[bytes] = []
        self._writer = StreamWriter.from_writable(self)

    def write(self, data: Any) -> int:
        """Take a part of the stream. Called by the stream's writer."""
        self._waiting.append(self._compressor.compress(data))
        return len(data)

    def add(self, batch: Columns) -> int:
        """Add a batch; how many bytes the file has grown by."""
        self._writer.write_array(_struct(self._table, batch))
        self._waiting.append(self._compressor.flush(zlib.Z_SYNC_FLUSH))
        return self._put()

    def end(self) -> int:
        """Write what ends the stream and the file; how many bytes that were."""
        self._writer.close()
        self._waiting.append(self._compressor.flush())
        return self._put()

    def release(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _put(self) -> int:
        data, self._waiting = b"".join(self._waiting), []
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
        return len(data)


def _struct(table: TableLayout, batch: Columns) -> CArray:
    import nanoarrow

    row_type, types = _arrow_types(tuple(table.columns.items()))
    columns = [_array(batch[name], kind, types[name]) for name, kind in table.columns.items()]
    return nanoarrow.c_array_from_buffers(row_type, rows_in(batch), [None], 0, children=columns)


@lru_cache(maxsize=2 * len(TABLES))
def _arrow_types(columns: tuple[tuple[str, ColumnType], ...]) -> tuple[Any, dict[str, Any]]:
    """Of a row, and of each column: made once, as that takes longer than to use them."""
    import nanoarrow

    types = {name: getattr(nanoarrow, kind.value)() for name, kind in columns}
    return nanoarrow.struct(types), types


def _array(values: Column, kind: ColumnType, arrow_type: Any) -> CArray:
    import nanoarrow

    if kind.dtype is not None:
        numbers = np.ascontiguousarray(values, kind.dtype)
        return nanoarrow.c_array_from_buffers(arrow_type, numbers.size, [None, numbers], 0)
    raw = [v.encode(errors="replace") if isinstance(v, str) else bytes(v) for v in _sequence(values)]
    offsets = np.zeros(len(raw) + 1, np.int32)
    np.cumsum([len(value) for value in raw], out=offsets[1:])
    return nanoarrow.c_array_from_buffers(arrow_type, len(raw), [None, offsets, b"".join(raw)], 0)


def _sequence(values: Column) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


def require_nanoarrow() -> None:
    """Import what streams are written by. Raises `EnvironmentRefusal` if it is not here."""
    try:
        import nanoarrow
        import nanoarrow.ipc  # noqa: F401
    except ImportError as error:
        raise EnvironmentRefusal(
            "captures are written by nanoarrow, which is not here", "pip install nanoarrow"
        ) from error
