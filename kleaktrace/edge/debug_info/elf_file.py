# SPDX-License-Identifier: GPL-2.0-or-later
"""As much of an ELF file as finding functions takes (include/uapi/linux/elf.h). Nothing in it is trusted.

Whatever does not fit is a ValueError: no offset or length is followed out of the file, and there are at most so many
sections and symbols.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kleaktrace.core.source_lines.function_table import Function
from kleaktrace.core.symbols.symbol_table import ELF_SYMBOL
from kleaktrace.edge.debug_info.elf_notes import build_id_in

HEADER = np.dtype(
    [
        *(("ident", "V16"), ("type", "<u2"), ("machine", "<u2"), ("version", "<u4"), ("entry", "<u8")),
        *(("segments", "<u8"), ("sections", "<u8"), ("flags", "<u4"), ("size", "<u2"), ("segment_size", "<u2")),
        *(("segment_count", "<u2"), ("section_size", "<u2"), ("section_count", "<u2"), ("names", "<u2")),
    ]
)
"""Elf64_Ehdr."""

SECTION = np.dtype(
    [
        *(("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("address", "<u8"), ("offset", "<u8"), ("size", "<u8")),
        *(("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entry_size", "<u8")),
    ]
)
"""Elf64_Shdr."""

RELOCATABLE = 1
"""The type of a module: no section has an address yet."""

NULL, SYMBOLS, NO_BITS, EXECUTABLE, COMPRESSED = 0, 2, 8, 0x4, 0x800
"""Types and flags of sections."""

_LITTLE_64 = b"\x7fELF\x02\x01"
_MOST_SYMBOLS = 1 << 23
_LONGEST_NAME = 512
_LONGEST_NOTE = 1 << 16


class Section(NamedTuple):
    """A section's header."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int


class ElfFile:
    """A 64-bit, little-endian ELF file. Raises OSError, or ValueError if it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = self.bytes_at(0, HEADER.itemsize)
        if not self.header.startswith(_LITTLE_64):
            raise ValueError("it is no 64-bit little-endian ELF file")
        header = np.frombuffer(self.header, HEADER)[0]
        self.type, self.machine = int(header["type"]), int(header["machine"])
        self.sections_at, count = int(header["sections"]), int(header["section_count"])
        if int(header["section_size"]) != SECTION.itemsize or not count:
            raise ValueError("it has no sections")
        self.headers = np.frombuffer(self.bytes_at(self.sections_at, count * SECTION.itemsize), SECTION)
        self.sections = self._sections(int(header["names"]))

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Some of its bytes, all of which must be there."""
        with self.path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            if offset + size > length:
                raise ValueError("it is cut short")
            file.seek(offset)
            return file.read(size)

    def content(self, section: Section) -> bytes:
        """What a section holds in the file, as it stands there."""
        return b"" if section.type == NO_BITS else self.bytes_at(section.offset, section.size)

    def find(self, *names: str) -> Section | None:
        """The first section of one of these names."""
        return next((section for section in self.sections if section.name in names), None)

    @property
    def has_source_lines(self) -> bool:
        """Whether it was built with debug information, and kept it."""
        found = self.find(".debug_line", ".zdebug_line")
        return found is not None and found.type != NO_BITS and found.size > 0

    @property
    def build_id(self) -> str:
        """In hexadecimal digits; empty: it has none."""
        for section in self.sections:
            if section.name in (".notes", ".note.gnu.build-id") and section.size <= _LONGEST_NOTE:
                found = build_id_in(self.content(section))
                if found:
                    return found
        return ""

    def functions(self, addresses: Sequence[int]) -> Mapping[str, list[Function]]:
        """The functions by name. `addresses`: of each section, what the values of its symbols are to be added to."""
        table = next((section for section in self.sections if section.type == SYMBOLS), None)
        if table is None or not 0 <= table.link < len(self.sections):
            return {}
        symbols = np.frombuffer(self.content(table), ELF_SYMBOL, table.size // ELF_SYMBOL.itemsize)
        if symbols.size > _MOST_SYMBOLS:
            raise ValueError("it has too many symbols")
        strings = self.content(self.sections[table.link])
        found: dict[str, list[Function]] = {}
        for number, section in enumerate(self.sections):
            if section.flags & EXECUTABLE:
                inside = symbols[(symbols["section"] == number) & ((symbols["info"] & 15) <= 2) & (symbols["name"] > 0)]
                end = section.size if self.type == RELOCATABLE else section.address + section.size
                _add_functions(found, inside, strings, end, addresses[number])
        return found

    def _sections(self, names: int) -> list[Section]:
        rows = [tuple(row) for row in self.headers[list(SECTION.names or ())].tolist()]
        if not 0 <= names < len(rows):
            raise ValueError("its sections have no names")
        strings = self.bytes_at(rows[names][4], rows[names][5])
        return [Section(_string(strings, name), *numbers[:7]) for name, *numbers in rows]


def _add_functions(found: dict[str, list[Function]], symbols: np.ndarray, strings: bytes, end: int, base: int) -> None:
    starts = sorted(set(symbols["value"].tolist()))
    for name_at, value, size in zip(*(symbols[name].tolist() for name in ("name", "value", "size")), strict=True):
        after = bisect_right(starts, value)
        limit = starts[after] if after < len(starts) else end
        name = _string(strings, name_at)
        if name:
            one = Function(base + value, size, max(limit - value, 0), is_last=after == len(starts))
            found.setdefault(name, []).append(one)


def _string(strings: bytes, start: int) -> str:
    end = strings.find(b"\0", start, start + _LONGEST_NAME)
    return strings[start:end].decode(errors="replace") if end >= 0 else ""
