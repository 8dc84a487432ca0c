# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import gzip
from collections.abc import Iterator

from builders import Scene, inside
from exported import A, everything, exported, hostile, huge, nothing, recording

from kleaktrace.views.exports.pprof import export, profile


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of one protobuf message."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        field, wire_type = divmod(number(), 8)
        if wire_type == 0:
            yield field, number()
        else:
            assert wire_type == 2
            length = number()
            at += length
            assert at <= len(data)
            yield field, data[at - length : at]


def messages(data: bytes, field: int) -> list[dict[int, int | bytes]]:
    return [dict(fields(content)) for number, content in fields(data) if number == field and isinstance(content, bytes)]


def strings(data: bytes) -> list[str]:
    return [content.decode() for number, content in fields(data) if number == 6 and isinstance(content, bytes)]


def test_it_is_gzipped_and_the_same_every_time() -> None:
    first, second = export(exported(everything())), export(exported(everything()))
    assert first == second
    assert gzip.decompress(first) == profile(exported(everything()))


def test_the_values_are_those_of_a_heap_profile() -> None:
    data = profile(exported(everything()))
    text = strings(data)
    kinds = [(text[int(kind[1])], text[int(kind[2])]) for kind in messages(data, 1)]
    assert kinds == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert text[0] == ""
    assert len(set(text)) == len(text)
    top = dict(fields(data))
    assert text[int(top[14])] == "inuse_space"
    assert (top[9], top[10]) == (1767225600 * 10**9, 60 * 10**9)


def test_return_addresses_are_moved_back_to_the_call() -> None:
    data = profile(exported(everything()))
    addresses = {location.get(3, 0) for location in messages(data, 4)}
    assert addresses == {
        0,
        *(inside(name) - 1 for name in ("core_alloc", "kthread", "drv_probe", "do_one_initcall")),
    }


def test_every_call_lies_in_its_mapping() -> None:
    data = profile(exported(everything()))
    mappings = {mapping[1]: mapping for mapping in messages(data, 3)}
    for location in messages(data, 4):
        if 2 in location:
            mapping = mappings[location[2]]
            assert int(mapping[2]) <= int(location[3]) < int(mapping[3])
            assert mapping[7] == 1, "it has functions: nobody needs to look for symbols"
    text = strings(data)
    assert [text[int(mapping[5])] for mapping in mappings.values()] == ["[kernel.kallsyms]", "[drv]"]


def test_the_last_address_there_is() -> None:
    scene = Scene()
    scene.names.stacks.add(9, [0, (1 << 64) - 1])
    scene.allocate(1, A, stack=9)
    data = profile(exported(recording(scene)))
    # An address without a name is in no mapping; 0 cannot be moved back.
    assert [(location.get(2), location.get(3)) for location in messages(data, 4)] == [
        (None, None),
        (None, (1 << 64) - 2),
    ]


def test_an_empty_recording_and_one_beyond_all_measure() -> None:
    assert messages(profile(exported(nothing())), 2) == []
    (sample,) = messages(profile(exported(huge())), 2)
    assert isinstance(sample[2], bytes)
    assert sample[2].endswith(b"\xff" * 8 + b"\x7f"), "the most that an int64 can hold"


def test_hostile_names_reach_no_terminal() -> None:
    assert all(text.isprintable() for text in strings(profile(exported(hostile()))))


def test_its_header_has_no_time() -> None:
    assert export(exported(nothing()))[4:8] == bytes(4)


def test_what_an_interrupt_came_upon_is_left_out() -> None:
    scene = Scene()
    scene.names.stacks.add(8, [inside("core_alloc"), inside("handle_softirqs"), inside("kthread")])
    scene.allocate(1, A, stack=8)
    assert "kthread" not in strings(profile(exported(recording(scene))))
