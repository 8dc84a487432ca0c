# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF files that are none, or lie."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import pytest
from debug_builds import build

from kleaktrace.edge.debug_info.elf_file import ElfFile
from kleaktrace.edge.debug_info.elf_notes import build_id_in
from kleaktrace.edge.debug_info.relocated import section_addresses, write_relocated

BUILD_ID = bytes(range(20))
NOTE = b"\x04\0\0\0" + b"\x14\0\0\0" + b"\x03\0\0\0" + b"GNU\0" + BUILD_ID
OTHER = b"\x06\0\0\0" + b"\x01\0\0\0" + b"\x03\0\0\0" + b"Linux\0\0\0" + b"x\0\0\0"


def test_a_build_id_is_found_among_notes() -> None:
    assert build_id_in(NOTE) == BUILD_ID.hex()
    assert build_id_in(OTHER + NOTE) == BUILD_ID.hex()
    assert build_id_in(OTHER) == ""
    assert build_id_in(b"") == ""


@pytest.mark.parametrize("notes", [b"\xff" * 64, NOTE[:11], b"\x04\0\0\0\0\0\0\0\x03\0\0\0GNU\0", b"\0" * 4096])
def test_notes_that_lie_have_none(notes: bytes) -> None:
    assert build_id_in(notes) == ""


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(60), b"\x7fELF\x01\x01" + bytes(60)])
def test_what_is_no_elf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=r"^it "):
        ElfFile(tmp_path / "x")


def use(path: Path) -> None:
    """All that is done with a file."""
    elf = ElfFile(path)
    assert len(elf.build_id) < 200
    if elf.has_source_lines:
        elf.functions([0] * len(elf.sections))
        target = io.BytesIO()
        write_relocated(elf, target)
        elf.functions(section_addresses(elf))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_a_damaged_file_is_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    whole = build(tmp_path).module.read_bytes()
    headers = int.from_bytes(whole[40:48], "little")
    chance = random.Random(1)
    damaged = tmp_path / "damaged.ko"
    refused = 0
    for number in range(400):
        content = bytearray(whole)
        if number % 4 == 0:
            del content[chance.randrange(len(content)) :]
        else:
            first, last = {1: (0, 64), 2: (headers, len(content)), 3: (0, len(content))}[number % 4]
            for _ in range(8):
                content[chance.randrange(first, last)] = chance.randrange(256)
        damaged.write_bytes(content)
        try:
            use(damaged)
        except ValueError:
            refused += 1
    assert refused > 50
