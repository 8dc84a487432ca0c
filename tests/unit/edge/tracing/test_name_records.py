# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of the name ring, laid out by the C header's structures, read back."""

from __future__ import annotations

import struct

import pytest
from builders import DRIVER, elf_tables
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.symbols.kernel_names import CacheName
from kleaktrace.core.symbols.symbol_table import TextRange
from kleaktrace.core.unwind.stack_paths import StackSample
from kleaktrace.edge.tracing.name_records import ModuleFreed, ModuleLoaded, ModulePage, ProgramName, StackName, decode

U64 = st.integers(0, 2**64 - 1)
STACK_DEPTH = 127


@given(st.lists(U64, max_size=STACK_DEPTH), U64)
def test_a_stack_has_as_many_frames_as_were_taken(addresses: list[int], key: int) -> None:
    spare = [0xDEAD] * (STACK_DEPTH + 1 - len(addresses))
    record = struct.pack("<IIQQ128Q", 1, len(addresses), key, 77, *addresses, *spare)
    assert decode(record) == StackName(key, addresses)


def test_a_cache() -> None:
    record = struct.pack("<IIQII64s", 2, 192, 7, 256, 0, b"dentry\0left over from before")
    assert decode(record) == CacheName(7, "dentry", 192, 256)


@pytest.mark.parametrize(("gfp_flags", "reclaimable"), [(0x10, True), (0x4010, True), (0x4000, False), (0, False)])
def test_a_cache_is_reclaimable_if_the_pages_it_takes_are(gfp_flags: int, reclaimable: bool) -> None:
    found = decode(struct.pack("<IIQII64s", 2, 192, 7, 256, gfp_flags, b"dentry"))
    assert isinstance(found, CacheName)
    assert found.reclaimable is reclaimable


def module(kind: int, name: bytes, symbols: int = 3) -> bytes:
    places = (DRIVER, 0x1000, DRIVER + 0x8000, 0x200, 0xFFFF000, 0xFFFFF00, 0xFFFFFF0)
    return struct.pack("<IIQQQ7Q64s", kind, symbols, 5, 444, 99, *places, name)


def test_a_module_that_is_loaded_says_where_its_code_and_its_symbols_are() -> None:
    loaded = decode(module(3, b"drv"))
    assert isinstance(loaded, ModuleLoaded)
    image = loaded.image
    assert (image.name, image.key, image.loaded_ns, image.freed_ns) == ("drv", 5, 99, None)
    assert loaded.identity == 444
    assert (image.text, image.init_text) == (TextRange(DRIVER, 0x1000), TextRange(DRIVER + 0x8000, 0x200))
    length = len(elf_tables([("a", 0), ("b", 0), ("c", 0)])[0])
    assert loaded.symbol_table == (0xFFFF000, 0xFFFF000 + length)
    assert loaded.string_table == (0xFFFFF00, 0xFFFFFF0)


def test_a_module_that_goes() -> None:
    assert decode(module(4, b"drv\0junk")) == ModuleFreed("drv", 5, 99)


def test_a_name_that_is_no_utf_8_and_one_that_fills_its_place() -> None:
    assert decode(module(4, b"\xff\x1b")) == ModuleFreed("\ufffd\x1b", 5, 99)
    assert decode(module(4, b"x" * 64)) == ModuleFreed("x" * 64, 5, 99)


def test_a_page_of_a_module_is_empty_if_it_could_not_be_read() -> None:
    data = bytes(range(256)) * 16
    assert decode(struct.pack("<IiQQ", 5, 0, 5, DRIVER) + data) == ModulePage(5, DRIVER, data)
    assert decode(struct.pack("<IiQQ", 5, -14, 5, DRIVER) + data) == ModulePage(5, DRIVER, b"")


@pytest.mark.parametrize("record", [b"", struct.pack("<I", 0), struct.pack("<I", 8) + bytes(100)])
def test_a_record_of_an_unknown_type_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="unknown record type"):
        decode(record)


def test_a_program_and_its_arguments() -> None:
    record = struct.pack("<IIQI256sI", 7, 42, 99, 6, b"ip\0-a\0left over", 0)
    assert decode(record) == ProgramName(42, 99, b"ip\0-a\0")


def test_a_sample_is_a_stack_and_the_words_it_lies_in() -> None:
    frames = struct.pack("<128Q", *range(100, 228))
    words = struct.pack("<4Q", 1, 2, 3, 4)
    record = (
        struct.pack("<IIQQ", 6, 2, 77, 5) + frames + struct.pack("<QQQIIIIQ", 88, 333, 66, 2, 3, 900, 1, 99) + words
    )
    sample = decode(record)
    assert isinstance(sample, StackSample)
    assert (sample.stack, sample.root, sample.event, sample.frames) == (77, 88, 2, (100, 101))
    assert (sample.modules, sample.recognised, sample.rest, sample.in_module, sample.base) == (333, 66, 900, True, 99)
    assert sample.words.tolist() == [1, 2, 3]
