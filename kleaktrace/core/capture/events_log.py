# SPDX-License-Identifier: GPL-2.0-or-later
"""Every event in a capture: some eight bytes each, of which a session can be played again.

What repeats is numbered: what an event says of its allocation (stack, place, cache, sizes, flags), and whose it was.
What is left, numbers and times, is told byte by byte, all lowest bytes first (as Parquet's BYTE_STREAM_SPLIT): like
bytes lie together, and a compressor needs no more than to count them. Times and ticks are told as how much later they
are than those of the event before. The low bytes of addresses and times are as good as random: to compress them took
more time than all the rest, and saved a quarter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import Interner
from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.capture import tables
from kleaktrace.core.capture.differences import later, summed
from kleaktrace.core.capture.tables import EVENT_PARTS, Columns, TableLayout
from kleaktrace.core.events.records import ALLOCATION, FREE, SECOND_UNIT, Batch, Rows

Integers = npt.NDArray[Any]
"""Numbers of any width, none below 0."""

_MOST_NUMBERED = 1 << 20
"""So much is numbered before it begins anew."""

_PLAIN = {"object": 4, "time": 2}
"""So many of the low bytes of these are not compressed."""

_FREE = np.uint64(1 << 16)
"""In a shape's flags, above kind << 8 | context: it is a free."""


class EventsLog:
    """Tells the events of one session."""

    def __init__(self) -> None:
        self._shapes, self._tasks = Interner(words=6), Interner(words=4)

    def batches(self, batches: Sequence[Batch]) -> Iterator[tuple[TableLayout, Columns]]:
        """The rows for some batches of the drain, in order; nothing for those without events."""
        some = [batch for batch in batches if batch.size]
        if not some:
            return
        anew = max(len(self._shapes), len(self._tasks)) > _MOST_NUMBERED
        if anew:
            self._shapes, self._tasks = Interner(words=6), Interner(words=4)
        shapes, tasks = len(self._shapes), len(self._tasks)
        parts = [self._parts(batch) for batch in some]
        yield tables.EVENT_SHAPES, _told_since(tables.EVENT_SHAPES, self._shapes, shapes)
        yield tables.EVENT_TASKS, _told_since(tables.EVENT_TASKS, self._tasks, tasks)
        yield (
            tables.EVENT_BATCHES,
            {
                "events": np.array([batch.size for batch in some], np.uint32),
                "time_ns": np.array([part["first_ns"] for part in parts], np.uint64),
                "jiffies": np.array([part["first_jiffies"] for part in parts], np.uint32),
                "newest_ns": np.array([batch.newest_ns for batch in some], np.uint64),
                "anew": np.array([anew, *[False] * (len(some) - 1)], np.uint8),
            },
        )
        columns = {name: np.concatenate([part[name] for part in parts]) for name in EVENT_PARTS}
        yield tables.EVENTS, _told([each for name in EVENT_PARTS for each in _split(name, columns[name])])
        yield tables.EVENTS_PLAIN, _told([_plain(name, columns[name]) for name in _PLAIN])

    def _interned_tasks(self, words: tuple[U64, ...]) -> Index:
        """As the interner does; a task mostly has many events in turn, and is looked up once for all of them."""
        begins = np.ones(words[0].size, np.bool_)
        np.not_equal(words[0][1:], words[0][:-1], out=begins[1:])
        for word in words[1:]:
            begins[1:] |= word[1:] != word[:-1]
        firsts = begins.nonzero()[0]
        numbers = self._tasks.intern(*(word.take(firsts) for word in words))
        return np.repeat(numbers, np.diff(firsts, append=words[0].size))

    def _parts(self, batch: Batch) -> dict[str, Integers]:
        """What is told of a batch's events, in the order in which they happened."""
        allocations, frees = batch.allocations, batch.frees
        sequence = np.concatenate([allocations["sequence"], frees["sequence"]])
        order = np.argsort(sequence, kind="stable")

        def both(name: str) -> Integers:
            joined: Integers = np.concatenate([allocations[name], frees[name]]).take(order)
            return joined

        times, jiffies = both("time_ns"), both("jiffies")
        shapes = np.concatenate([self._shapes.intern(*_shape(allocations)), self._shapes.intern(*_free_shape(frees))])
        tasks = np.concatenate([self._interned_tasks(_task(allocations)), self._interned_tasks(_free_task(frees))])
        return {
            "object": both("object"),
            "time": later(times, int(times[0])),
            "jiffies": later(jiffies, int(jiffies[0])),
            "shape": shapes.take(order),
            "task": tasks.take(order),
            "cpu": both("cpu"),
            "first_ns": times[0],
            "first_jiffies": jiffies[0],
        }


class EventsReader:
    """Makes batches of events of what was told. Raises ValueError where it does not agree with itself."""

    def __init__(self) -> None:
        self._shapes, self._tasks = _nothing(6), _nothing(4)
        self._batches: Columns = {}
        self._sequence = 0

    def take(self, batches: Sequence[tuple[TableLayout, Columns]]) -> Iterator[Batch]:
        """The events of a flush, batch by batch."""
        told = {table.name: batch for table, batch in batches}
        lengths, events = told.get(tables.EVENT_BATCHES.name), told.get(tables.EVENTS.name)
        plain = told.get(tables.EVENTS_PLAIN.name)
        if lengths is None:
            return
        if events is None or plain is None:
            raise ValueError("the bytes of its events are not told")
        if lengths["anew"].any():
            self._shapes, self._tasks = _nothing(6), _nothing(4)
        self._shapes = _added(self._shapes, told.get(tables.EVENT_SHAPES.name))
        self._tasks = _added(self._tasks, told.get(tables.EVENT_TASKS.name))
        ends = np.cumsum(lengths["events"], dtype=np.uint64)
        columns = _joined([*_pieces(events), *_pieces(plain)], int(ends[-1]))
        for number, end in enumerate(ends.tolist()):
            start = end - int(lengths["events"][number])
            own = {name: column[start:end] for name, column in columns.items()}
            yield self._batch(own, int(lengths["time_ns"][number]), int(lengths["jiffies"][number]))

    def _batch(self, columns: dict[str, U64], first_ns: int, first_jiffies: int) -> Batch:
        count = columns["object"].size
        shapes, tasks = _looked_up(self._shapes, columns["shape"]), _looked_up(self._tasks, columns["task"])
        rows = np.zeros(count, ALLOCATION)
        rows["sequence"] = np.arange(self._sequence, self._sequence + count, dtype=np.uint64)
        self._sequence += count
        rows["object"], rows["cpu"] = columns["object"], columns["cpu"].astype(np.uint16)
        rows["time_ns"] = summed(columns["time"], first_ns)
        rows["jiffies"] = summed(columns["jiffies"], first_jiffies).astype(np.uint32)
        rows["stack"], rows["call_site"], rows["cache"] = shapes[0], shapes[1], shapes[2]
        rows["gfp_flags"], rows["kind"], rows["context"] = (
            shapes[3] >> np.uint64(32),
            _byte(shapes[3], 8),
            _byte(shapes[3], 0),
        )
        rows["bytes_req"], rows["bytes_alloc"] = shapes[4], shapes[5]
        rows["comm"] = np.stack([tasks[0], tasks[1]], axis=1).view("S16")[:, 0]
        rows["cgroup"], rows["second_unit"] = tasks[2], SECOND_UNIT
        rows["tgid"], rows["tid"] = tasks[3] >> np.uint64(32), tasks[3] & np.uint64(0xFFFFFFFF)
        freed = (shapes[3] & _FREE) != 0
        frees = np.zeros(int(np.count_nonzero(freed)), FREE)
        for name in FREE.names or ():
            frees[name] = rows[name][freed]
        return Batch(rows[~freed], frees)


def _shape(rows: Rows) -> tuple[U64, ...]:
    flags = rows["gfp_flags"].astype(np.uint64) << np.uint64(32)
    flags |= rows["kind"].astype(np.uint64) << np.uint64(8) | rows["context"].astype(np.uint64)
    return rows["stack"], rows["call_site"], rows["cache"], flags, rows["bytes_req"], rows["bytes_alloc"]


def _free_shape(rows: Rows) -> tuple[U64, ...]:
    nothing = np.zeros(rows.size, np.uint64)
    flags = rows["kind"].astype(np.uint64) << np.uint64(8) | rows["context"].astype(np.uint64) | _FREE
    return rows["stack"], rows["call_site"], nothing, flags, nothing, nothing


def _task(rows: Rows) -> tuple[U64, ...]:
    comm = np.ascontiguousarray(rows["comm"]).view(np.uint64).reshape(-1, 2)
    return comm[:, 0], comm[:, 1], rows["cgroup"], _ids(rows)


def _free_task(rows: Rows) -> tuple[U64, ...]:
    nothing = np.zeros(rows.size, np.uint64)
    return nothing, nothing, rows["cgroup"], _ids(rows)


def _ids(rows: Rows) -> U64:
    ids: U64 = rows["tgid"].astype(np.uint64) << np.uint64(32) | rows["tid"].astype(np.uint64)
    return ids


class _Piece(NamedTuple):
    """Of a part, the bytes from a place on, as many for each event as fit into `octets`."""

    part: int
    place: int
    octets: bytes


def _plain(name: str, column: Integers) -> _Piece:
    """The low bytes of a part that are not compressed."""
    return _Piece(EVENT_PARTS.index(name), 0, column.astype(f"u{_PLAIN[name]}").tobytes())


def _split(name: str, column: Integers) -> Iterator[_Piece]:
    """The other bytes of a part, the lowest of all events first; what is 0 for all is left out, but for the lowest."""
    part, first = EVENT_PARTS.index(name), _PLAIN.get(name, 0)
    rest = column >> column.dtype.type(8 * first) if first else column
    width = (int(rest.max()).bit_length() + 7) // 8
    if not first:
        width = max(width, 1)
    # Of what is narrow, bytes are taken from narrow numbers: from wide ones, it takes several times as long.
    held = next(size for size in (1, 2, 4, 8) if size >= width)
    octets = rest.astype(f"u{held}").view(np.uint8).reshape(-1, held)
    for place in range(width):
        yield _Piece(part, first + place, octets[:, place].tobytes())


def _told(pieces: Sequence[_Piece]) -> Columns:
    parts, places, octets = zip(*pieces, strict=True)
    return {"part": np.array(parts, np.uint8), "place": np.array(places, np.uint8), "octets": list(octets)}


def _pieces(told: Columns) -> Iterator[_Piece]:
    columns = (told["part"].tolist(), told["place"].tolist(), told["octets"])
    return (_Piece(*piece) for piece in zip(*columns, strict=True))


def _joined(pieces: Sequence[_Piece], count: int) -> dict[str, U64]:
    """Put the parts of so many events together again."""
    joined = np.zeros((len(EVENT_PARTS), count, 8), np.uint8)
    for part, place, octets in pieces:
        width, more = divmod(len(octets), count)
        if more or not width:
            raise ValueError("a batch has not as many events as it states")
        if part >= len(EVENT_PARTS) or place + width > 8:
            raise ValueError(f"byte {place} of part {part} of events is not known")
        joined[part, :, place : place + width] = np.frombuffer(octets, np.uint8).reshape(count, width)
    if not {(part, 0) for part in range(len(EVENT_PARTS))} <= {(part, place) for part, place, _ in pieces}:
        raise ValueError("not all is told of its events")
    return {name: joined[part].view(np.uint64)[:, 0] for part, name in enumerate(EVENT_PARTS)}


def _told_since(table: TableLayout, numbered: Interner, first: int) -> Columns:
    return {name: numbered.word(word)[first:] for word, name in enumerate(table.columns)}


def _nothing(words: int) -> list[U64]:
    return [np.zeros(0, np.uint64) for _ in range(words)]


def _added(words: list[U64], batch: Columns | None) -> list[U64]:
    if batch is None:
        return words
    return [np.concatenate([word, more]) for word, more in zip(words, batch.values(), strict=True)]


def _looked_up(words: list[U64], numbers: U64) -> list[U64]:
    if numbers.size and int(numbers.max()) >= words[0].size:
        raise ValueError("an event is of a kind that is not told")
    return [word.take(numbers.astype(np.intp)) for word in words]


def _byte(words: U64, shift: int) -> U64:
    byte: U64 = words >> np.uint64(shift) & np.uint64(0xFF)
    return byte
