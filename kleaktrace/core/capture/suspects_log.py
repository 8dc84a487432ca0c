# SPDX-License-Identifier: GPL-2.0-or-later
"""What kmemleak said, and what leaked objects held, in a capture: each suspect once, though every reading lists it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.capture import tables
from kleaktrace.core.capture.tables import Columns, TableLayout
from kleaktrace.core.events.coverage import Coverage
from kleaktrace.core.events.records import hide
from kleaktrace.core.evidence.evidence import Question
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.leaked_objects.anatomy import ObjectContents
from kleaktrace.core.recording import Recording
from kleaktrace.core.symbols.symbol_table import Symbols

_FRAME_FIELDS = ("address", "symbol", "offset", "size", "module", "source", "inline", "printed")
_MOST_READINGS = 1 << 12
_FIRST_OF_KERNEL = np.uint64(1 << 63)
"""Complements of the kernel's addresses are below."""


def suspect_batches(recording: Recording) -> Iterator[tuple[TableLayout, Columns]]:
    """The rows for all that was asked about single objects."""
    numbers: dict[Suspect, int] = {}
    readings = [[numbers.setdefault(s, len(numbers)) for s in reading] for reading in recording.readings]
    lengths = [len(reading) for reading in readings]
    yield tables.SUSPECTS, _suspect_columns(list(numbers))
    yield tables.SUSPECT_FRAMES, {"frame": [_frame_text(frame) for suspect in numbers for frame in suspect.frames]}
    yield (
        tables.READINGS,
        {
            "reading": np.repeat(np.arange(len(readings), dtype=np.uint32), lengths),
            "suspect": np.array([number for reading in readings for number in reading], np.uint32),
        },
    )
    yield (
        tables.ANSWERS,
        {
            "object": np.array([hide(question.address) for question in recording.answers], np.uint64),
            "kind": np.array([question.kind for question in recording.answers], np.uint8),
            "tracked": np.array(list(recording.answers.values()), np.uint8),
        },
    )
    if recording.contents is not None:
        words = recording.contents.words
        held = [each.tobytes() for each in words.values()]
        yield tables.CONTENTS, {"object": np.array(list(words), np.uint64), "words": held}
        yield tables.FUNCTIONS, _function_columns(words.values(), recording.names.symbols)


def _suspect_columns(suspects: Sequence[Suspect]) -> Columns:
    return {
        "object": np.array([hide(s.address) for s in suspects], np.uint64),
        "size": np.array([s.size for s in suspects], np.uint64),
        "kind": [str(s.kind) for s in suspects],
        "comm": [s.comm for s in suspects],
        "pid": np.array([s.pid for s in suspects], np.int64),
        "jiffies": np.array([s.jiffies for s in suspects], np.uint64),
        "age_s": np.array([s.age_s or 0.0 for s in suspects], np.float64),
        "has_age": np.array([s.age_s is not None for s in suspects], np.uint8),
        "crc": np.array([s.crc or 0 for s in suspects], np.uint32),
        "has_crc": np.array([s.crc is not None for s in suspects], np.uint8),
        "more": np.array([s.more for s in suspects], np.uint64),
        "line": np.array([s.line for s in suspects], np.uint64),
        "depth": np.array([len(s.frames) for s in suspects], np.uint32),
    }


def _frame_text(frame: KmemleakFrame) -> str:
    return json.dumps([getattr(frame, name) for name in _FRAME_FIELDS])


def _read_frame(text: str) -> KmemleakFrame:
    values = json.loads(text)
    kinds = (int, str, int, int, str, str, bool, str)
    if not isinstance(values, list) or len(values) != len(kinds):
        raise ValueError("a frame of a suspect is not what it should be")
    if any(value is not None and not isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
        raise ValueError("a frame of a suspect is not what it should be")
    return KmemleakFrame(**dict(zip(_FRAME_FIELDS, values, strict=True)))


def _function_columns(words: Any, symbols: Symbols) -> Columns:
    """The functions that words may point to. Words are complements of what the objects held."""
    several = np.unique(np.concatenate([np.zeros(0, np.uint64), *words]))
    of_kernel = several[several < _FIRST_OF_KERNEL]
    named = {address: symbols.function_at(address) for address in map(hide, of_kernel.tolist())}
    found = {address: name for address, name in named.items() if name is not None}
    return {"address": np.array(list(found), np.uint64), "name": list(found.values())}


class SuspectsReader:
    """Puts it together again."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._frames: list[KmemleakFrame] = []
        self._readings: list[tuple[int, int]] = []
        self.answers: dict[Question, bool] = {}
        self._words: dict[int, U64] = {}

    def take(self, table: TableLayout, batch: Columns) -> None:
        """Take a batch of one of the tables about single objects."""
        columns = (column.tolist() if isinstance(column, np.ndarray) else column for column in batch.values())
        rows = list(zip(*columns, strict=True))
        match table:
            case tables.SUSPECTS:
                self._rows += rows
            case tables.SUSPECT_FRAMES:
                self._frames += [_read_frame(text) for (text,) in rows]
            case tables.READINGS:
                self._readings += rows
            case tables.ANSWERS:
                self.answers.update((Question(hide(key), kind), bool(tracked)) for key, kind, tracked in rows)
            case tables.CONTENTS:
                self._words.update((key, np.frombuffer(words[: len(words) // 8 * 8], np.uint64)) for key, words in rows)

    def readings(self, count: int) -> list[list[Suspect]]:
        """What was listed by each of so many readings."""
        suspects = self._suspects()
        if count > _MOST_READINGS:
            raise ValueError(f"it tells of {count} readings")
        readings: list[list[Suspect]] = [[] for _ in range(count)]
        for reading, number in self._readings:
            if reading >= count or number >= len(suspects):
                raise ValueError("a reading lists what is not told")
            readings[reading].append(suspects[number])
        return readings

    def contents(self, coverage: Coverage | None) -> ObjectContents | None:
        """What objects held, if anybody looked."""
        words: Mapping[int, U64] = self._words
        return None if coverage is None else ObjectContents(words, coverage)

    def _suspects(self) -> list[Suspect]:
        found, at = [], 0
        for key, size, kind, comm, pid, jiffies, age_s, has_age, crc, has_crc, more, line, depth in self._rows:
            frames, at = tuple(self._frames[at : at + depth]), at + depth
            age, checksum = age_s if has_age else None, crc if has_crc else None
            found.append(
                Suspect(hide(key), size, SuspectKind(kind), comm, pid, jiffies, age, checksum, frames, more, line)
            )
        return found
