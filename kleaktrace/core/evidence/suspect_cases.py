# SPDX-License-Identifier: GPL-2.0-or-later
"""The suspects of all readings, each once, with what the ledger knows about its address. No verdicts yet.

There may be a hundred thousand: what can be looked up for all of them at once is, and the rest are plain tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from kleaktrace.core.events.records import Kind, hide
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.ledger.ledger import Ledger

if TYPE_CHECKING:
    from kleaktrace.core.kmemleak.report_parser import Suspect

JIFFIES_TOLERANCE = 2
"""kmemleak stamps its object a moment after the tracepoint fires (mm/kmemleak.c, __create_object), or before.

Of a vmalloc it may be long after: where the addresses are traced, and not the function, the pages are still to be got
and cleared (mm/vmalloc.c, `__vmalloc_node_range`). As an event comes with each, what is still there is no other.
"""

LATE_S = 4.0
"""By how much an event may be later than kmemleak's stamp: the task may lose its CPU between the two.

kmemleak lists nothing younger than 5 s (mm/kmemleak.c, MSECS_MIN_AGE). So what it lists has had its address for as
long, and an allocation seen there in that time is no other.
"""

ObjectKey = tuple[bool, int]
"""An object: whether its address is among per-CPU offsets, and the address, hidden."""

_Identity = tuple[str, int, int]


class OutstandingAllocation(NamedTuple):
    """An outstanding allocation: fields of OUTSTANDING."""

    object: int
    time_ns: int
    stack: int
    bytes_req: int
    bytes_alloc: int
    cache: int
    comm: bytes
    jiffies: int
    tid: int
    tgid: int
    kind: int
    context: int
    gfp_flags: int

    @property
    def key(self) -> ObjectKey:
        """Which object it is."""
        return self.kind == Kind.PERCPU, self.object


class EndedAllocation(NamedTuple):
    """An allocation that ended: fields of CLOSED."""

    object: int
    time_ns: int
    closed_ns: int
    stack: int
    free_site: int
    bytes_req: int
    bytes_alloc: int
    jiffies: int
    kind: int
    ending: int

    @property
    def key(self) -> ObjectKey:
        """Which object it was."""
        return self.kind == Kind.PERCPU, self.object


_Row = TypeVar("_Row", OutstandingAllocation, EndedAllocation)


def as_tuples(rows: npt.NDArray[Any], row: type[_Row]) -> list[_Row]:
    """OUTSTANDING rows as `OutstandingAllocation`, or CLOSED rows as `EndedAllocation`."""
    columns: list[list[Any]] = [rows[name].tolist() for name in row._fields]
    return [row._make(values) for values in zip(*columns, strict=True)]


class SuspectCase(NamedTuple):
    """One suspect and what the ledger knows about its address."""

    suspect: Suspect
    percpu: bool
    object: int  # its hidden address
    row: OutstandingAllocation | None  # what is outstanding at its address
    matches_row: bool  # whether that is the suspect itself,
    newer_row: bool  # or was allocated later
    endings: Sequence[EndedAllocation]  # of allocations at its address, oldest first
    watched: Sequence[EndedAllocation]  # seen since it was watched
    listed_last: int  # by how many last readings in a row
    missed_last: int  # or by how many it is not

    @property
    def key(self) -> tuple[bool, int, int]:
        """Which object: a `ObjectKey`, and the time of allocation in jiffies."""
        return self.percpu, self.object, self.suspect.jiffies

    @property
    def matched(self) -> OutstandingAllocation:
        """The row, for where `matches_row` holds."""
        assert self.row is not None
        return self.row


def same_time(apart: int, hz: float, kind: int) -> bool:
    """Whether an event this many jiffies after a suspect's stamp (before it, if negative) is of its own allocation."""
    earliest = -LATE_S * hz if kind == Kind.VMALLOC else -JIFFIES_TOLERANCE
    return earliest <= apart <= LATE_S * hz


def cases(ledger: Ledger, readings: Sequence[Sequence[Suspect]], hz: float) -> list[SuspectCase]:
    """Each suspect once, as the newest reading has it.

    readings: what was listed after each scan, oldest first. hz: jiffies per second.
    """
    newest, listed = _listed(readings)
    suspects = newest.values()
    percpu_kind = SuspectKind.PERCPU
    percpu = np.array([suspect.kind == percpu_kind for suspect in suspects], np.bool_)
    names = np.array([hide(address) for _, address, _ in newest], np.uint64)
    found, rows = ledger.lookup(names, percpu)
    ticks = np.array([suspect.jiffies & 0xFFFF_FFFF for suspect in suspects], np.uint32)
    apart = (rows["jiffies"] - ticks).view(np.int32)  # as the kernel's time_after() sees it
    earliest = np.where(rows["kind"] == Kind.VMALLOC, -LATE_S * hz, -JIFFIES_TOLERANCE)  # as `same_time`
    matches = found & (apart >= earliest) & (apart <= LATE_S * hz)
    newer = found & (apart > LATE_S * hz)
    held = iter(as_tuples(rows[found], OutstandingAllocation))
    endings = _by_key(ledger.history(names, percpu))
    watched = _by_key(ledger.watched_frees())
    lengths = cache(lambda bits: _last(bits, len(readings)))
    return [
        SuspectCase(
            suspect,
            of_percpu,
            name,
            next(held) if is_held else None,
            is_same,
            is_newer,
            endings.get((of_percpu, name), ()),
            watched.get((of_percpu, name), ()),
            *lengths(bits),
        )
        for suspect, of_percpu, name, is_held, is_same, is_newer, bits in zip(
            suspects,
            percpu.tolist(),
            names.tolist(),
            found.tolist(),
            matches.tolist(),
            newer.tolist(),
            listed.values(),
            strict=True,
        )
    ]


def _listed(readings: Sequence[Sequence[Suspect]]) -> tuple[dict[_Identity, Suspect], dict[_Identity, int]]:
    """Each suspect as the newest reading has it, and which readings list it: a bit for each."""
    by_reading: list[dict[_Identity, Suspect]] = [
        {(suspect.kind, suspect.untagged, suspect.jiffies): suspect for suspect in reading} for reading in readings
    ]
    newest: dict[_Identity, Suspect] = {}
    for reading in by_reading:
        newest.update(reading)
    listed = dict.fromkeys(newest, (1 << len(readings)) - 1)
    for number, reading in enumerate(by_reading):
        for who in set(newest).difference(reading):  # few, and none of the others is hashed again
            listed[who] ^= 1 << number
    return newest, listed


def _last(bits: int, readings: int) -> tuple[int, int]:
    """By how many readings, counted back from the last without a break, it is listed; and by how many it is not."""
    by = [bool(bits >> number & 1) for number in reversed(range(readings))]
    listed = by.index(False) if False in by else readings
    missed = by.index(True) if True in by else readings
    return listed, missed


def _by_key(closed: npt.NDArray[Any]) -> dict[ObjectKey, list[EndedAllocation]]:
    """CLOSED rows by place, in their order."""
    found: dict[ObjectKey, list[EndedAllocation]] = {}
    for ended in as_tuples(closed, EndedAllocation):
        found.setdefault(ended.key, []).append(ended)
    return found
