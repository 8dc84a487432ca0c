# SPDX-License-Identifier: GPL-2.0-or-later
"""Notes of ELF files, as files and sysfs have them."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<III")
_BUILD_ID, _OWNER = 3, b"GNU\0"  # include/uapi/linux/elf.h, NT_GNU_BUILD_ID
_LONGEST = 64


def build_id_in(notes: bytes) -> str:
    """The build id among ELF notes, in hexadecimal digits; empty: there is none."""
    at = 0
    while at + _HEADER.size <= len(notes):
        owner_size, size, kind = _HEADER.unpack_from(notes, at)
        owner_at = at + _HEADER.size
        content_at = owner_at + (owner_size + 3 & ~3)
        if kind == _BUILD_ID and notes[owner_at : owner_at + owner_size] == _OWNER and 0 < size <= _LONGEST:
            return notes[content_at : content_at + size].hex()
        at = content_at + (size + 3 & ~3)
    return ""
