# SPDX-License-Identifier: GPL-2.0-or-later
"""A heap profile for pprof (https://github.com/google/pprof/blob/main/proto/profile.proto), gzipped.

One sample for each call stack, with the values and in the order of Go's own heap profiles; shown first are the bytes
in use. Labels tell cache, context, verdict and the stack's key.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence

from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL
from kleaktrace.core.source_lines.source_lines import SourceLines
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.core.tables.stack_rows import StackRow
from kleaktrace.terminal import clean
from kleaktrace.views.exports.material import Material, NamedFrame, module_of, named_frames
from kleaktrace.views.exports.protobuf_wire import integer, message, packed

_VALUES = (("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes"))
_SHOWN_FIRST = "inuse_space"
_PAGE = 4096
_MOST = (1 << 63) - 1
"""The most that a value can be; a forged capture may tell of more."""

# Numbers of fields in profile.proto.
_SAMPLE_TYPE, _SAMPLE, _MAPPING, _LOCATION, _FUNCTION, _STRING = range(1, 7)
_TIME_NANOS, _DURATION_NANOS, _DEFAULT_SAMPLE_TYPE = 9, 10, 14


def export(material: Material) -> bytes:
    """Return the profile; the same material gives the same bytes."""
    return gzip.compress(profile(material), mtime=0)


def profile(material: Material) -> bytes:
    """Return the Profile message itself."""
    tables = _Tables(material.report.source_lines)
    window = material.report.window
    parts = [message(_SAMPLE_TYPE, tables.value_type(*value)) for value in _VALUES]
    parts += [message(_SAMPLE, _sample(row, tables)) for row in material.rows]
    parts += [message(_MAPPING, mapping) for mapping in tables.mappings()]
    parts += [message(_LOCATION, location) for location in tables.locations]
    parts += [message(_FUNCTION, function) for function in tables.functions]
    shown_first = tables.string(_SHOWN_FIRST)
    parts += [message(_STRING, text.encode()) for text in tables.strings]
    parts.append(integer(_TIME_NANOS, max(int(window.start.timestamp() * 1e9), 0)))
    parts.append(integer(_DURATION_NANOS, max(int(window.seconds * 1e9), 0)))
    parts.append(integer(_DEFAULT_SAMPLE_TYPE, shown_first))
    return b"".join(parts)


def _sample(row: StackRow, tables: _Tables) -> bytes:
    frames = row.stack.own_frames
    locations = [tables.location(frame) for frame in frames] or [tables.lost()]
    values = (row.allocations, row.allocated_bytes, row.outstanding, row.outstanding_bytes)
    labels = {
        "cache": ", ".join(row.caches),
        "context": ", ".join(row.contexts),
        "verdict": str(row.verdict),
        "stack": row.key,
    }
    written = [message(3, tables.label(name, clean(text))) for name, text in labels.items() if text]
    return packed(1, locations) + packed(2, (min(value, _MOST) for value in values)) + b"".join(written)


class _Tables:
    """What samples refer to by number: strings from 0, the others from 1."""

    def __init__(self, sources: SourceLines) -> None:
        self.strings = [""]
        self._sources = sources
        self.functions: list[bytes] = []
        self.locations: list[bytes] = []
        self._string_places = {"": 0}
        self._function_ids: dict[tuple[str, str], int] = {}
        self._location_ids: dict[Frame | None, int] = {}
        self._mapping_ids: dict[str, int] = {}
        self._ranges: dict[str, tuple[int, int]] = {}  # first and last call, by name of the mapping

    def string(self, text: str) -> int:
        place = self._string_places.setdefault(text, len(self.strings))
        if place == len(self.strings):
            self.strings.append(text)
        return place

    def value_type(self, name: str, unit: str) -> bytes:
        return integer(1, self.string(name)) + integer(2, self.string(unit))

    def label(self, name: str, text: str) -> bytes:
        return integer(1, self.string(name)) + integer(2, self.string(text))

    def location(self, frame: Frame) -> int:
        """The number of a frame's location. A return address lies behind the call: the call is the byte before it."""
        if frame not in self._location_ids:
            call = max(frame.address - 1, 0)
            name = module_of(frame)
            mapping = self._mapping(name, call) if name else 0
            self._add_location(frame, integer(2, mapping) + integer(3, call), named_frames(frame, self._sources))
        return self._location_ids[frame]

    def lost(self) -> int:
        """The number of what stands for a stack that could not be taken."""
        if None not in self._location_ids:
            self._add_location(None, b"", [NamedFrame(NO_STACK_LABEL, "", 0)])
        return self._location_ids[None]

    def mappings(self) -> Iterator[bytes]:
        """One for the kernel and for each module: the pages that any stack is in. It is said to need no symbols."""
        lines = integer(8, 1) + integer(9, 1) + integer(10, 1) if self._sources else b""  # files, lines, inlined ones
        for name, (low, high) in self._ranges.items():
            start, limit = low // _PAGE * _PAGE, (high // _PAGE + 1) * _PAGE
            place = integer(2, start) + integer(3, min(limit, (1 << 64) - 1))
            yield integer(1, self._mapping_ids[name]) + place + integer(5, self.string(name)) + integer(7, 1) + lines

    def _add_location(self, frame: Frame | None, place: bytes, named: Sequence[NamedFrame]) -> None:
        """Its last line is the function that all others were inlined into."""
        number = self._location_ids[frame] = len(self.locations) + 1
        lines = (integer(1, self._function(one.name, one.file)) + integer(2, one.line) for one in named)
        self.locations.append(integer(1, number) + place + b"".join(message(4, line) for line in lines))

    def _function(self, name: str, file: str) -> int:
        if (name, file) not in self._function_ids:
            number = self._function_ids[name, file] = len(self.functions) + 1
            text = self.string(name)
            told = integer(1, number) + integer(2, text) + integer(3, text) + integer(4, self.string(file))
            self.functions.append(told)
        return self._function_ids[name, file]

    def _mapping(self, name: str, call: int) -> int:
        low, high = self._ranges.get(name, (call, call))
        self._ranges[name] = min(low, call), max(high, call)
        return self._mapping_ids.setdefault(name, len(self._ranges))
