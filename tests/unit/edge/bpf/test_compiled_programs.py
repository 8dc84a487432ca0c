# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiled programs: what is left open in them, what it becomes, and the file they are kept in."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.edge.bpf.compiled_programs import (
    CALL,
    FORMAT,
    FUNCTIONS,
    KERNEL_FUNCTION,
    NAMED_MAPS,
    VALUES,
    MapSpec,
    Programs,
    decoded,
    encoded,
    instruction,
    unbound,
    value_macros,
)

MAPS = (MapSpec("events", 27, 0, 0, 4096, 0), MapSpec("counters", 6, 4, 8, 10, 0))
EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)


def load(register: int, source: int, constant: int, upper: int = 0) -> bytes:
    """`register = constant` of 64 bits; `source` says what the constant is."""
    first = struct.pack("=BBhI", 0x18, source << 4 | register, 0, constant)
    return first + struct.pack("=BBhI", 0, 0, 0, upper)


def programs(code: bytes) -> Programs:
    return Programs("GPL", MAPS, {"on_event": code})


def file_of(content: object) -> bytes:
    """With a checksum that is right."""
    body = json.dumps(content).encode()
    return FORMAT + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def test_a_map_goes_by_its_place_until_it_is_linked() -> None:
    by_place = unbound(load(1, 1, 57) + load(2, 1, 8) + EXIT, map_fds=(8, 57))
    assert by_place == load(1, 1, 1) + load(2, 1, 0) + EXIT
    assert programs(by_place).linked("on_event", (30, 40), {}) == load(1, 1, 40) + load(2, 1, 30) + EXIT


def test_a_value_becomes_a_plain_constant_of_64_bits() -> None:
    open_value = load(3, 15, VALUES.index("VFREE")) + EXIT
    linked = programs(open_value).linked("on_event", (1, 2), {"VFREE": 0xFFFFFFFF81234567})
    assert linked == load(3, 0, 0x81234567, 0xFFFFFFFF) + EXIT


def test_a_value_that_is_not_given_is_no_silent_zero() -> None:
    with pytest.raises(KeyError):
        programs(load(3, 15, VALUES.index("SELF")) + EXIT).linked("on_event", (1, 2), {"VFREE": 1})


def test_nothing_else_is_changed() -> None:
    # A constant that looks like a place or a number of a map, and an instruction whose registers look like a reference.
    code = load(1, 0, 1, 15) + struct.pack("=BBhi", 0xBF, 0x1F, 0, 0) + struct.pack("=BBhi", 0x07, 0xF1, 3, -1) + EXIT
    assert unbound(code, (8, 57)) == code
    assert programs(code).linked("on_event", (8, 57), {}) == code


def call(register: int, source: int, number: int) -> bytes:
    return struct.pack("=BBhI", 0x85, source << 4 | register, 0, number)


def test_a_function_of_the_kernel_is_called_by_its_number_in_btf() -> None:
    open_call = int(value_macros({"RDONLY_CAST": 1})["RDONLY_CAST"])
    code = call(0, 0, open_call) + call(0, 0, 113) + call(0, 1, open_call) + EXIT
    linked = programs(code).linked("on_event", (1, 2), {"RDONLY_CAST": 65477})
    assert linked == call(0, 2, 65477) + code[8:], "neither a helper nor a function of our own is touched"
    with pytest.raises(KeyError):
        programs(code).linked("on_event", (1, 2), {})


def test_an_instruction_as_the_kernel_has_it() -> None:
    assert instruction(0xB7, destination=2, constant=157) == struct.pack("=BBhi", 0xB7, 2, 0, 157)
    assert instruction(CALL, source=KERNEL_FUNCTION, constant=65477) == call(0, 2, 65477)


def test_a_map_for_a_helper_goes_by_its_name_until_it_is_linked() -> None:
    names = MapSpec("names", 27, 0, 0, 4096, 0)
    code = load(1, 14, list(NAMED_MAPS).index("NAME_RING")) + load(2, 14, list(NAMED_MAPS).index("EVENT_RING")) + EXIT
    linked = Programs("GPL", (names, *MAPS), {"on_event": code}).linked("on_event", (30, 40, 50), {})
    assert linked == load(1, 1, 30) + load(2, 1, 40) + EXIT


def test_the_c_sources_get_each_map_and_value_by_its_number() -> None:
    assert value_macros({"SELF": 1, "VFREE": 2}) == {
        "EVENT_RING": "bpf_pseudo_fd(14,0)",
        "NAME_RING": "bpf_pseudo_fd(14,1)",
        "SELF": "bpf_pseudo_fd(15,0)",
        "VFREE": f"bpf_pseudo_fd(15,{VALUES.index('VFREE')})",
    }


def test_what_is_kept_comes_back_the_same() -> None:
    kept = programs(load(1, 1, 1) + load(2, 15, 0) + EXIT)
    assert decoded(encoded(kept, {"key": "k"})) == (kept, {"key": "k"})


@given(st.data())
def test_a_file_that_lost_or_changed_a_byte_is_not_taken(data: st.DataObject) -> None:
    whole = encoded(programs(load(1, 1, 1) + EXIT), None)
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(1, 255))
    for broken in (whole[:place], whole[:place] + bytes([whole[place] ^ other]) + whole[place + 1 :]):
        with pytest.raises(ValueError, match="damaged"):
            decoded(broken)


@pytest.mark.parametrize(
    "code",
    [
        load(1, 1, 2) + EXIT,
        load(1, 14, len(NAMED_MAPS)) + EXIT,
        load(1, 15, len(VALUES)) + EXIT,
        struct.pack("=BBhI", 0x85, 0, 0, 0x7F000000 + len(FUNCTIONS)) + EXIT,
        EXIT[:-1],
    ],
    ids=["a map too many", "a named map too many", "a value too many", "a function too many", "half an instruction"],
)
def test_a_program_that_cannot_be_linked_is_not_taken(code: bytes) -> None:
    with pytest.raises(ValueError, match=r"refers|buffer"):
        decoded(encoded(programs(code), None))


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"origin": 0, "license": "GPL", "maps": [{"name": "x"}], "functions": {}},
        {"origin": 0, "license": "GPL", "maps": [], "functions": {"f": "not hex"}},
        {"origin": 0, "license": "GPL", "maps": [], "functions": {"f": 1}},
        {"origin": 0, "license": "GPL", "maps": [], "functions": []},
    ],
)
def test_a_whole_file_with_something_else_in_it_is_not_taken(content: object) -> None:
    with pytest.raises(ValueError, match=r"not compiled programs|hexadecimal"):
        decoded(file_of(content))


def test_another_format_is_not_taken() -> None:
    data = encoded(programs(EXIT), None)
    with pytest.raises(ValueError, match="not a file of compiled programs"):
        decoded(data.replace(FORMAT, b"kleaktrace BPF programs 0"))
