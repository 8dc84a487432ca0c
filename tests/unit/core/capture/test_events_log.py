# SPDX-License-Identifier: GPL-2.0-or-later
"""Events told and put together again are the events that they were, in the batches that they came in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from event_load import EventLoad
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.capture import events_log, tables
from kleaktrace.core.capture.events_log import EventsLog, EventsReader
from kleaktrace.core.capture.tables import rows_in
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch

_UNUSED = ("sequence", "second_unit", "reserved", "reserved_too")
word = st.integers(0, 2**64 - 1)


def batches_of(flushes: list[list[Batch]]) -> list[Batch]:
    log, reader = EventsLog(), EventsReader()
    found: list[Batch] = []
    for flush in flushes:
        found += reader.take([(table, dict(batch)) for table, batch in log.batches(flush) if rows_in(batch)])
    return found


def told(batch: Batch) -> list[tuple[Any, ...]]:
    """Its events in order, without the numbers that only order them."""
    events = [
        (
            int(row["sequence"]),
            rows.dtype == FREE,
            tuple(row[name].item() for name in rows.dtype.names if name not in _UNUSED),
        )
        for rows in (batch.allocations, batch.frees)
        for row in rows
    ]
    return [event[1:] for event in sorted(events)]


@st.composite
def made_batches(draw: st.DrawFn) -> Batch:
    kinds = draw(st.lists(st.booleans(), max_size=6))
    rows = [np.zeros(len(kinds), ALLOCATION), np.zeros(len(kinds), FREE)]
    values = draw(st.lists(st.lists(word, min_size=16, max_size=16), min_size=len(kinds), max_size=len(kinds)))
    for free, some in enumerate(rows):
        for number, own in enumerate(values):
            for value, name in zip(own, [n for n in some.dtype.names if n not in _UNUSED], strict=False):
                if name == "comm":
                    some[number][name] = value.to_bytes(8, "little") * 2
                else:
                    some[number][name] = value % (1 << 8 * some.dtype[name].itemsize)
            some[number]["time_ns"] %= 1 << 50
            some[number]["sequence"] = number * 3
        rows[free] = some[[kind == bool(free) for kind in kinds]]
    rows[1]["stack"] *= 0
    return Batch(*rows)


@given(st.lists(st.lists(made_batches(), max_size=3), max_size=4))
@pytest.mark.thorough
def test_they_come_back_as_they_were(flushes: list[list[Batch]]) -> None:
    wanted = [batch for flush in flushes for batch in flush if batch.size]
    assert [told(batch) for batch in batches_of(flushes)] == [told(batch) for batch in wanted]


def test_what_is_numbered_begins_anew_before_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_log, "_MOST_NUMBERED", 50)
    load = EventLoad(outstanding=500)
    flushes = [[batch] for batch in load.fill(100)]
    assert [told(batch) for batch in batches_of(flushes)] == [told(flush[0]) for flush in flushes]


def without(batch: tables.Columns, part: int) -> tables.Columns:
    left = batch["part"] != part
    octets = [each for each, is_left in zip(batch["octets"], left, strict=True) if is_left]
    return {"part": batch["part"][left], "place": batch["place"][left], "octets": octets}


def with_more(batch: tables.Columns, part: int = 0, place: int = 0) -> tables.Columns:
    return {
        "part": np.append(batch["part"], np.uint8(part)),
        "place": np.append(batch["place"], np.uint8(place)),
        "octets": [*batch["octets"], batch["octets"][0]],
    }


def test_an_event_of_what_is_not_told_is_refused() -> None:
    batches = list(EventsLog().batches(list(EventLoad(outstanding=10).fill())))
    for left_out in (tables.EVENT_SHAPES, tables.EVENT_TASKS, tables.EVENTS, tables.EVENTS_PLAIN):
        with pytest.raises(ValueError, match="not told"):
            list(EventsReader().take([one for one in batches if one[0] != left_out]))
    for left_out in range(len(tables.EVENT_PARTS)):
        octets = (tables.EVENTS, tables.EVENTS_PLAIN)
        less = [(t, without(b, left_out) if t in octets else b) for t, b in batches]
        with pytest.raises(ValueError, match="not all is told"):
            list(EventsReader().take(less))
    for column, value in (("part", 6), ("place", 8)):
        more = [(t, with_more(b, **{column: value}) if t == tables.EVENTS else b) for t, b in batches]
        with pytest.raises(ValueError, match="is not known"):
            list(EventsReader().take(more))
    fewer = [(t, {**b, "events": b["events"] + 1} if t == tables.EVENT_BATCHES else b) for t, b in batches]
    with pytest.raises(ValueError, match="not as many"):
        list(EventsReader().take(fewer))
