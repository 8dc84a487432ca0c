# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads captures, a directory or the file made of one. They may come from anybody, and may break off anywhere."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from kleaktrace.core.capture.arrow_stream import read_batches
from kleaktrace.core.capture.events_log import EventsReader
from kleaktrace.core.capture.recording_log import Flush, RecordingReader
from kleaktrace.core.capture.tables import (
    EVENT_BATCHES,
    EVENT_SHAPES,
    EVENT_TASKS,
    EVENTS,
    EVENTS_PLAIN,
    FLUSHES,
    FORMAT,
    PARTS,
    PARTS_KEPT,
    TABLES,
    Columns,
    TableLayout,
)
from kleaktrace.core.events.records import Batch
from kleaktrace.core.recording import Recording
from kleaktrace.edge.capture.capture_files import DESCRIPTION, stream_name
from kleaktrace.errors import UsageError

_MOST_DESCRIPTION = 1 << 16
_CHUNK = 1 << 16
_GZIP = 31


def read_capture(path: Path) -> Recording:
    """The recording that a capture holds, up to its end or to where it breaks off, which then shows as a loss.

    Raises `UsageError` for what is no capture, is damaged, or was written by a newer program.
    """
    reader = RecordingReader()
    with _refusals(path):
        for flush in flushes(path):
            reader.take(flush)
        return reader.recording()


def captured_batches(path: Path) -> Iterator[Batch]:
    """The events of a capture, in batches as they came to the drain; none if it has not kept them.

    Raises `UsageError` as `read_capture` does.
    """
    reader = EventsReader()
    with _refusals(path):
        for flush in flushes(path, (EVENT_SHAPES, EVENT_TASKS, EVENT_BATCHES, EVENTS, EVENTS_PLAIN)):
            yield from reader.take(flush.batches)


def captured_times(path: Path) -> list[int]:
    """When (ns) the last event of each of the batches was that `captured_batches` gives."""
    with _refusals(path):
        every = [batch["newest_ns"].tolist() for flush in flushes(path, (EVENT_BATCHES,)) for _, batch in flush.batches]
    return list(chain.from_iterable(every))


def flushes(path: Path, wanted: Sequence[TableLayout] = TABLES) -> Iterator[Flush]:
    """The flushes of a capture in order, with what they have added to some tables.

    Raises `UsageError`, ValueError and its kin as they come to what is wrong.
    """
    container = _Container(path)
    _check_format(container)
    oldest = {column: container.oldest_part(column) for column in PARTS_KEPT}
    streams: dict[str, Iterator[Columns]] = {}
    names = {table.name for table in wanted}
    for batch in _batches(container, FLUSHES):
        for at in range(len(batch["tables"])):
            row = {name: column[at : at + 1] for name, column in batch.items()}
            chosen = int(row["tables"][0])
            if chosen >> len(TABLES):
                raise ValueError("it has tables that this program does not know")
            batches = []
            for bit, table in enumerate(TABLES):
                if chosen >> bit & 1 and table.name in names:
                    column = PARTS.get(table.name)
                    part = 0 if column is None else int(row[column][0])
                    if column is not None and part < oldest[column]:
                        continue  # newer parts tell all that matters
                    name = stream_name(table, part)
                    if name not in streams:
                        streams[name] = _batches(container, table, part)
                    found = next(streams[name], None)
                    if found is None:
                        return  # the machine went down: other files have less of it
                    batches.append((table, found))
            yield Flush(batches, row)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror or error}", "name a capture: kleaktrace record -o NAME makes one"
        ) from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, zlib.error, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} is no capture, or is damaged: {error}",
            "send it once more, or make another: kleaktrace record -o NAME",
        ) from error


class _Container:
    """The files of a capture by name, wherever they are."""

    def __init__(self, path: Path) -> None:
        self._directory = path if path.is_dir() else None
        self._archive = None if path.is_dir() else zipfile.ZipFile(path)

    def open(self, name: str) -> IO[bytes] | None:
        """A file; None: the capture has none of this name."""
        try:
            if self._archive is not None:
                return self._archive.open(name)
            assert self._directory is not None
            return (self._directory / name).open("rb")
        except (KeyError, FileNotFoundError):
            return None

    def oldest_part(self, column: str) -> int:
        """The lowest number of the parts that are here."""
        table = next(name for name, its in PARTS.items() if its == column)
        names = self._archive.namelist() if self._archive else [each.name for each in self._names()]
        found = [re.fullmatch(rf"{table}\.(\d{{1,9}})\.arrows\.gz", name, re.ASCII) for name in names]
        return min((int(match[1]) for match in found if match), default=0)

    def _names(self) -> Iterator[Path]:
        assert self._directory is not None
        return self._directory.iterdir()


def _check_format(container: _Container) -> None:
    file = container.open(DESCRIPTION)
    if file is None:
        raise ValueError(f"it has no {DESCRIPTION}")
    with file:
        described = json.loads(file.read(_MOST_DESCRIPTION))
    found = described.get("kleaktrace_capture") if isinstance(described, dict) else None
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"its {DESCRIPTION} is not one")
    if found > FORMAT:
        by = str(described.get("program", "a newer program"))[:80]
        raise UsageError(f"the capture is of format {found}, by {by}; this reads up to {FORMAT}", "update kleaktrace")


def _batches(container: _Container, table: TableLayout, part: int = 0) -> Iterator[Columns]:
    file = container.open(stream_name(table, part))
    if file is not None:
        with file:
            yield from read_batches(table, _Decompressed(file).read)


class _Decompressed:
    """What a gzip file holds, up to where it breaks off. Takes no more memory than is asked for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor: Any = zlib.decompressobj(_GZIP)
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""
        while len(self._ready) < size and not self._decompressor.eof:
            compressed = self._decompressor.unconsumed_tail or self._file.read(_CHUNK)
            data = self._decompressor.decompress(compressed, _CHUNK)
            if not compressed and not data:
                break
            self._ready += data
        found = bytes(self._ready[:size])
        del self._ready[:size]
        return found
