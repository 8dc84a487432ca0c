# SPDX-License-Identifier: GPL-2.0-or-later
"""The mapped rings against a walk record by record: nothing lost, doubled, reordered or taken before it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
from fake_ring import BUSY, DISCARDED, HEADER, PAGE, FakeRing
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.records import ALLOCATION, FREE, SECOND_UNIT, UNIT
from kleaktrace.edge.tracing import ring as module
from kleaktrace.edge.tracing.ring import EventRing, NameRing

SIZE = PAGE


def payload(dtype: np.dtype, number: int) -> bytes:
    """A record's bytes after its header; `number` tells it from the others."""
    row = np.zeros((), dtype)
    row["object"], row["time_ns"], row["call_site"] = 0xFFFF888100000000 + number, number, ~np.uint64(number)
    if dtype is ALLOCATION:
        row["second_unit"], row["comm"], row["bytes_req"] = SECOND_UNIT, b"task", number
    return row.tobytes()[HEADER:]


@dataclass
class Record:
    position: int
    dtype: np.dtype
    number: int
    state: str = "busy"  # committed, discarded


def naive_batch(waiting: list[Record], consumed: int, bound: int) -> list[Record]:
    """What one look must take, found by walking; at most `bound` units."""
    taken: list[Record] = []
    for record in waiting:
        if record.state == "busy" or record.position + record.dtype.itemsize - consumed > bound * UNIT:
            break
        taken.append(record)
    return taken


def taken_numbers(batch: module.Batch) -> list[tuple[int, int]]:
    """(sequence, number) of all events, in order; checks that each is whole."""
    for rows, dtype in ((batch.allocations, ALLOCATION), (batch.frees, FREE)):
        assert rows.dtype == dtype
        for row in rows:
            expected = np.frombuffer(bytes(HEADER) + payload(dtype, int(row["time_ns"])), dtype)[0].copy()
            expected["sequence"] = row["sequence"]
            assert row == expected
        assert (np.diff(rows["sequence"].astype(np.int64)) > 0).all()
    merged = np.concatenate([batch.allocations[["sequence", "time_ns"]], batch.frees[["sequence", "time_ns"]]])
    return sorted((int(row["sequence"]), int(row["time_ns"])) for row in merged)


operations = st.lists(
    st.tuples(
        st.sampled_from(["allocation", "free", "commit", "commit", "discard", "take"]),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=120,
)


@given(operations, st.integers(2, 9) | st.just(1 << 18), st.integers(0, 3 * SIZE // UNIT))
def test_batches_are_what_a_walk_finds(operations: list[tuple[str, int, bool]], bound: int, start: int) -> None:
    fake = FakeRing(SIZE, start * UNIT)
    ring = EventRing(fake.fd, SIZE)
    waiting: list[Record] = []

    def take() -> None:
        expected = naive_batch(waiting, fake.consumed, bound)
        with mock.patch.object(module, "_BATCH_UNITS", bound):
            batch = ring.take()
        events = [(r.position // UNIT, r.number) for r in expected if r.state == "committed"]
        assert taken_numbers(batch) == events
        assert batch.size == len(events)
        assert fake.consumed == ring._position
        # Of a discarded allocation, the bound may leave the second unit to the next look.
        while waiting and waiting[0].position + waiting[0].dtype.itemsize <= fake.consumed:
            assert waiting.pop(0) in expected

    for number, (what, which, at_once) in enumerate(operations):
        if what in ("allocation", "free"):
            dtype = ALLOCATION if what == "allocation" else FREE
            position = fake.reserve(dtype.itemsize - HEADER)
            if position is not None:
                record = Record(position, dtype, number)
                waiting.append(record)
                if at_once:
                    fake.commit(position, payload(dtype, number))
                    record.state = "committed"
        elif what == "take":
            take()
        else:
            busy = [record for record in waiting if record.state == "busy"]
            if which < len(busy):
                record = busy[which]
                flags = DISCARDED if what == "discard" else 0
                fake.commit(record.position, payload(record.dtype, record.number), flags)
                record.state = "discarded" if what == "discard" else "committed"
    for record in waiting:
        if record.state == "busy":
            fake.commit(record.position, payload(record.dtype, record.number))
            record.state = "committed"
    while waiting:
        left = len(waiting)
        take()
        assert len(waiting) < left
    assert ring.pending == 0
    ring.close()
    fake.close()


@pytest.fixture
def fake() -> Iterator[FakeRing]:
    made = FakeRing(SIZE, SIZE - 2 * UNIT)
    yield made
    made.close()


def test_an_empty_ring_gives_an_empty_batch(fake: FakeRing) -> None:
    ring = EventRing(fake.fd, SIZE)
    batch = ring.take()
    assert (batch.size, batch.allocations.dtype, batch.frees.dtype) == (0, ALLOCATION, FREE)
    ring.close()


def test_a_record_over_the_end_of_the_ring_is_whole(fake: FakeRing) -> None:
    fake.put(payload(FREE, 1))
    fake.put(payload(ALLOCATION, 2))
    ring = EventRing(fake.fd, SIZE)
    assert ring.pending == 3 * UNIT
    first = SIZE // UNIT - 2
    assert taken_numbers(ring.take()) == [(first, 1), (first + 1, 2)]
    ring.close()


def test_nothing_behind_a_busy_record_is_taken_before_it(fake: FakeRing) -> None:
    ring = EventRing(fake.fd, SIZE)
    fake.put(payload(FREE, 1))
    slow = fake.reserve(len(payload(ALLOCATION, 2)))
    assert slow is not None
    fake.put(payload(FREE, 3))
    assert [number for _, number in taken_numbers(ring.take())] == [1]
    assert ring.take().size == 0
    fake.commit(slow, payload(ALLOCATION, 2))
    assert [number for _, number in taken_numbers(ring.take())] == [2, 3]
    ring.close()


def test_a_batch_is_a_copy_that_outlives_the_ring(fake: FakeRing) -> None:
    fake.put(payload(FREE, 1))
    ring = EventRing(fake.fd, SIZE)
    batch = ring.take()
    ring.close()
    assert int(batch.frees["time_ns"][0]) == 1


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.sampled_from(["put", "discard"]), st.booleans()), max_size=60),
    st.integers(0, SIZE // 8),
)
def test_names_come_whole_and_in_order(records: list[tuple[bytes, str, bool]], start: int) -> None:
    fake = FakeRing(SIZE, start * 8)
    ring = NameRing(fake.fd, SIZE)
    wanted, taken = [], []
    for data, what, look in records:
        position = fake.reserve(len(data))
        while position is None:
            taken += ring.take()
            position = fake.reserve(len(data))
        if look:
            taken += ring.take()
        assert not taken or taken == wanted[: len(taken)]
        fake.commit(position, data, DISCARDED if what == "discard" else 0)
        wanted += [data] if what == "put" else []
    taken += ring.take()
    assert taken == wanted
    assert ring.pending == 0
    ring.close()
    fake.close()


def test_a_busy_name_holds_back_those_behind_it(fake: FakeRing) -> None:
    ring = NameRing(fake.fd, SIZE)
    slow = fake.reserve(10)
    assert slow is not None
    fake.put(b"second")
    assert list(ring.take()) == []
    fake.commit(slow, b"the first!")
    assert list(ring.take()) == [b"the first!", b"second"]
    ring.close()


def test_the_second_unit_of_an_allocation_looks_like_no_header() -> None:
    assert int(SECOND_UNIT) & 0xFFFFFFFF != len(payload(ALLOCATION, 0)) | BUSY
    assert int(SECOND_UNIT) & BUSY, "it is told apart before the busy bit is looked at"
