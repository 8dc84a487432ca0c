# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a capture: a directory with a compressed Arrow IPC stream for each table, which are only added to.

Every stream is a gzip file, flushed with each batch: it can be read up to where it breaks off. `capture.json` says what
it is, and is there first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kleaktrace import __version__
from kleaktrace.core.capture.recording_log import Flush
from kleaktrace.core.capture.tables import FLUSHES, FORMAT, Column, Columns, ColumnType, Table, rows_in
from kleaktrace.errors import EnvironmentRefusal, UsageError

if TYPE_CHECKING:
    from nanoarrow.c_array import CArray

DESCRIPTION = "capture.json"
STREAM = "{}.arrows.gz"

_LEVEL = 1
"""A higher one takes two or three times as long, and saves a tenth."""
_GZIP = 31
"""Bits of the window, and that there is a header (zlib.h, deflateInit2)."""


class CaptureFiles:
    """A new capture of the first flush; under its name there is a capture that can be read, or nothing.

    Raises `UsageError` if it can't be made there; later, writing raises OSError.
    """

    def __init__(self, path: Path, first: Flush) -> None:
        self.bytes = 0
        """Written so far."""
        self._streams: dict[str, _Stream] = {}
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
        """Add all of a flush; the row that makes it count comes last."""
        for table, batch in [*flush.batches, (FLUSHES, flush.row)]:
            if table.name not in self._streams:
                self._streams[table.name] = _Stream(self._path, table)
            self.bytes += self._streams[table.name].add(batch)

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

    def __init__(self, directory: Path, table: Table) -> None:
        from nanoarrow.ipc import StreamWriter

        self._table = table
        self._fd = os.open(
            directory / STREAM.format(table.name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
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


def _struct(table: Table, batch: Columns) -> CArray:
    import nanoarrow

    types = {name: _arrow_type(kind) for name, kind in table.columns.items()}
    columns = [_array(batch[name], kind, types[name]) for name, kind in table.columns.items()]
    return nanoarrow.c_array_from_buffers(nanoarrow.struct(types), rows_in(batch), [None], 0, children=columns)


def _arrow_type(kind: ColumnType) -> Any:
    import nanoarrow

    return getattr(nanoarrow, kind.value)()


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
