# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.views.exports.protobuf_wire import integer, message, packed, varint


def decoded(data: bytes) -> int:
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(data))


def test_the_examples_of_the_specification() -> None:
    assert varint(1) == b"\x01"
    assert integer(1, 150) == b"\x08\x96\x01"
    assert message(2, b"testing") == b"\x12\x07testing"
    assert packed(6, [3, 270, 86942]) == bytes.fromhex("3206038e029ea705")


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_holds_every_bit(value: int) -> None:
    data = varint(value)
    assert decoded(data) == value
    assert [byte & 0x80 for byte in data] == [0x80] * (len(data) - 1) + [0]
    assert len(data) <= 10


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_what_no_uint64_holds_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="is no uint64"):
        varint(value)


def test_zero_is_left_out_but_where_it_has_a_place() -> None:
    assert integer(3, 0) == b""
    assert packed(2, [0, 0]) == b"\x12\x02\0\0"
    assert message(4, b"") == b"\x22\0"
