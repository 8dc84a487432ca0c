# SPDX-License-Identifier: GPL-2.0-or-later
"""The little of protobuf's wire format that writing a profile takes (https://protobuf.dev/programming-guides/encoding).

Fields are written in the order asked for, and what is zero or empty is left out, as proto3 has it: the same values
give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

_VARINT, _BYTES = 0, 2


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, for what 64 bits can hold; all of ours is positive."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} is no uint64")
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def integer(field: int, value: int) -> bytes:
    """A number, a truth value, or a reference to another message."""
    return _key(field, _VARINT) + varint(value) if value else b""


def message(field: int, content: bytes) -> bytes:
    """A message or a string. An empty one is written, too: it counts where there are several."""
    return _key(field, _BYTES) + varint(len(content)) + content


def packed(field: int, values: Iterable[int]) -> bytes:
    """Several numbers, zeros too."""
    return message(field, b"".join(map(varint, values)))


def _key(field: int, wire_type: int) -> bytes:
    return varint(field << 3 | wire_type)
