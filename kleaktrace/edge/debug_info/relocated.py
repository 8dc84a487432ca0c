# SPDX-License-Identifier: GPL-2.0-or-later
"""A module's file with addresses of its own, for programs that read debug information.

All sections of a module lie at 0 until it is loaded, so that an address in it means nothing. Here each section with
code gets one, and what its debug information says of addresses is put in, as the kernel's own loader does for code
(arch/*/kernel/module.c). Only the relocations that debug information has are known.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.symbols.symbol_table import ELF_SYMBOL
from kleaktrace.edge.debug_info.elf_file import (
    COMPRESSED,
    EXECUTABLE,
    HEADER,
    NULL,
    SYMBOLS,
    ElfFile,
    Section,
)

_FIRST = 0x100000
_PAGE = 0x1000
_PROGRAM = 2
"""The type of a file whose sections have addresses."""

_RELOCATIONS = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
"""Elf64_Rela."""

_WITH_ADDEND = 4
_WIDTHS = {62: {1: 8, 10: 4}, 183: {257: 8, 258: 4}}
"""By machine (x86-64, arm64) and type of relocation, the bytes of the address that it puts in."""

_COMPRESSION_HEADER = 24
_ZLIB = 1
_MOST = 1 << 30
"""Bytes of debug information."""


def section_addresses(elf: ElfFile) -> list[int]:
    """An address for each section; those without code have none."""
    addresses, free = [], _FIRST
    for section in elf.sections:
        has_code = bool(section.flags & EXECUTABLE)
        addresses.append(free if has_code else 0)
        free += (section.size // _PAGE + 1) * _PAGE if has_code else 0
    return addresses


def write_relocated(elf: ElfFile, target: IO[bytes]) -> None:
    """Write the file as if it were at `section_addresses`. Raises OSError, or ValueError for what is not known."""
    if elf.machine not in _WIDTHS:
        raise ValueError("it is for another architecture")
    image = bytearray(elf.bytes_at(0, elf.path.stat().st_size))
    headers, addresses = elf.headers.copy(), section_addresses(elf)
    headers["address"] = addresses
    values = _place_symbols(elf, image, addresses)
    for number, section in enumerate(elf.sections):
        if section.name.startswith(".debug_") and section.flags & COMPRESSED:
            content = _decompressed(elf.content(section))
            headers["offset"][number], headers["size"][number] = len(image), len(content)
            headers["flags"][number] &= ~np.uint64(COMPRESSED)
            image += content
    for number, section in enumerate(elf.sections):
        if section.type == _WITH_ADDEND:
            headers["type"][number] = NULL
            if 0 <= section.info < len(elf.sections) and elf.sections[section.info].name.startswith(".debug_"):
                start, size = int(headers["offset"][section.info]), int(headers["size"][section.info])
                _relocate(elf, section, np.frombuffer(image, np.uint8)[start : start + size], values)
    header = np.frombuffer(elf.header, HEADER).copy()
    header["type"], header["sections"] = _PROGRAM, len(image)
    image[: HEADER.itemsize] = header.tobytes()
    target.write(image)
    target.write(headers.tobytes())


def _place_symbols(elf: ElfFile, image: bytearray, addresses: Sequence[int]) -> U64:
    """Add the sections' addresses to the symbols in the image, and return their values."""
    table = next((section for section in elf.sections if section.type == SYMBOLS), None)
    if table is None:
        raise ValueError("it has no symbols")
    elf.bytes_at(table.offset, table.size)
    symbols = np.frombuffer(image, ELF_SYMBOL, table.size // ELF_SYMBOL.itemsize, table.offset)
    placed = symbols["section"] < len(addresses)
    symbols["value"][placed] += np.array(addresses, np.uint64)[symbols["section"][placed]]
    values: U64 = symbols["value"].copy()
    return values


def _relocate(elf: ElfFile, section: Section, content: np.ndarray, values: U64) -> None:
    for width, places, symbols, addends in _known(elf, section):
        if symbols.size and (symbols.max() >= values.size or places.max() > content.size - width):
            raise ValueError(f"{section.name} leads out of the file")
        words = (values[symbols] + addends.astype(np.uint64)).astype("<u8").view(np.uint8).reshape(-1, 8)
        for byte in range(width):
            content[places + np.uint64(byte)] = words[:, byte]


def _known(elf: ElfFile, section: Section) -> Iterator[tuple[int, U64, np.ndarray, np.ndarray]]:
    rows = np.frombuffer(elf.content(section), _RELOCATIONS, section.size // _RELOCATIONS.itemsize)
    for kind, width in _WIDTHS[elf.machine].items():
        some = rows[rows["type"] == kind]
        yield width, some["offset"], some["symbol"], some["addend"]


def _decompressed(content: bytes) -> bytes:
    """What a section holds that CONFIG_DEBUG_INFO_COMPRESSED_ZLIB has compressed."""
    if int.from_bytes(content[:4], "little") != _ZLIB:
        raise ValueError("its debug information is compressed, and not by zlib")
    machine = zlib.decompressobj()
    try:
        found = machine.decompress(content[_COMPRESSION_HEADER:], _MOST)
    except zlib.error as error:
        raise ValueError(f"its debug information can't be decompressed: {error}") from error
    if machine.unconsumed_tail:
        raise ValueError("it has too much debug information")
    return found
