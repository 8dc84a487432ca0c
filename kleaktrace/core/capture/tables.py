# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of a capture. Each is a stream of batches that is only ever added to.

A capture is written flush by flush. A flush adds at most one batch to each table, and ends with a row of `FLUSHES` that
says which: what has no such row never happened. So all tables tell of the same moment, however a capture ends.

Objects go by their hidden addresses (`records.hide`), times are ns of CLOCK_MONOTONIC, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = 1
"""What this program writes. It reads this and what is older; columns that it does not know it leaves alone."""


class ColumnType(Enum):
    """What a column holds: numbers of one size, text, or bytes."""

    U8 = "uint8"
    U16 = "uint16"
    U32 = "uint32"
    U64 = "uint64"
    I64 = "int64"
    F64 = "float64"
    TEXT = "string"
    BYTES = "binary"

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of the numbers; None: it holds none."""
        return None if self in (ColumnType.TEXT, ColumnType.BYTES) else np.dtype(self.value)


Column = npt.NDArray[Any] | Sequence[bytes] | Sequence[str]
"""Numbers, or a sequence of bytes or text."""

Columns = Mapping[str, Any]
"""A batch: a `Column` by each name, all of the same length."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Which columns a table has, in order. `name` is that of its file."""

    name: str
    columns: Mapping[str, ColumnType]


def rows_in(batch: Columns) -> int:
    """How many rows a batch has."""
    return len(next(iter(batch.values())))


U8, U16, U32, U64 = ColumnType.U8, ColumnType.U16, ColumnType.U32, ColumnType.U64
I64, F64, TEXT, BYTES = ColumnType.I64, ColumnType.F64, ColumnType.TEXT, ColumnType.BYTES

FACTS = TableLayout("facts", {"name": TEXT, "value": TEXT})
"""What there is once: the value is JSON (`core.capture.facts`); of a name that comes again the last one holds."""

FRAMES = TableLayout("frames", {"address": U64, "name": TEXT, "named": U8, "offset": U64, "size": U64, "module": TEXT})
"""Frames of call stacks and places that free, numbered 0, 1, 2, …"""

STACKS = TableLayout("stacks", {"stack": U64, "context": U8, "flags": U8, "depth": U32})
"""Call stacks by key. Their frames, innermost first, are the next `depth` of `STACK_FRAMES`."""

STACK_FRAMES = TableLayout("stack_frames", {"frame": U32})

SITES = TableLayout("sites", {"site": U64, "frame": U32})
"""Places that free, by key."""

SITE_KEYS = TableLayout("site_keys", {"frame": U32})
"""What the keys 1, 2, 3, … of places in modules stand for (`CallSites`)."""

FUNCTIONS = TableLayout("functions", {"address": U64, "name": TEXT})
"""Functions that leaked objects point to."""

CACHES = TableLayout("caches", {"cache": U64, "name": TEXT, "object_size": U32, "size": U32, "reclaimable": U8})
"""Slab caches by key; of a key that comes again the last one holds."""

MODULES = TableLayout("modules", {"name": TEXT, "time_ns": U64, "loaded": U8})
"""When modules were loaded (1) and unloaded (0)."""

PROGRAMS = TableLayout("programs", {"tgid": U32, "time_ns": U64, "arguments": BYTES})
"""What processes ran from when on; each argument ends with a NUL."""

LEDGER_STACKS = TableLayout("ledger_stacks", {"stack": U64})
"""Keys of the call stacks that were counted, numbered 0, 1, 2, …: the numbers are what the tables below go by."""

COUNTER_COLUMNS = ("task", "softirq", "hardirq", "nmi", "unknown")
"""Allocations by context, as `StackTableState.by_context` has them."""

COUNTERS = TableLayout(
    "counters",
    {
        "stack": U32,
        **dict.fromkeys(COUNTER_COLUMNS, I64),
        "bytes_allocated": I64,
        "bytes_closed": I64,
        "implied_frees": I64,
        "lifetime_max": U64,
        "lifetime_sum": U64,
    },
)
"""What the call stacks allocated and freed since the flush before, and by how much the longest lifetime is longer, and
the bits of the sum of all lifetimes, which is a float64, are more. Numbers of stacks are told as by how much each is
more than the one before (`core.capture.differences`)."""

CELLS = TableLayout("cells", {"stack": U32, "bin": U8, "site": U64})
"""Numbered 0, 1, 2, …: a call stack, a lifetime (`bin_range`), and the place that freed."""

CELL_COUNTS = TableLayout("cell_counts", {"cell": U32, "frees": U32})
"""How many were freed so since the flush before. Cells are told as by how much each is more than the one before."""

OUTSTANDING = TableLayout(
    "outstanding",
    {
        "row": U32,
        "object": U64,
        "time_ns": U64,
        "stack": U32,
        "origin": U32,
        "task": U32,
        "jiffies": U32,
        "cpu": U16,
        "doubled": U8,
    },
)
"""Allocations that became outstanding, each in place of what was at that row of the reader's table before. Objects,
times and ticks are told as by how much each is more than the one before."""

GONE = TableLayout("gone", {"row": U32})
"""Rows that hold nothing any more, each told as by how much it is more than the one before."""

ORIGINS = TableLayout("origins", {"call_site": U64, "cache": U64, "flags": U64, "bytes_req": U64, "bytes_alloc": U64})
"""What outstanding allocations have in common, numbered 0, 1, 2, …; flags: gfp_flags << 32 | kind << 8 | context."""

TASKS = TableLayout("tasks", {"comm_0": U64, "comm_1": U64, "cgroup": U64, "ids": U64})
"""Who allocated, numbered 0, 1, 2, …: the two words of the comm, and tgid << 32 | tid."""

ENDINGS = TableLayout(
    "endings",
    {
        "object": U64,
        "time_ns": U64,
        "stack": U64,
        "bytes_req": U64,
        "bytes_alloc": U64,
        "jiffies": U32,
        "kind": U8,
        "closed_ns": U64,
        "free_site": U64,
        "closed_tid": U32,
        "ending": U8,
    },
)
"""How allocations ended that had lived for a while (`Ledger.history`). The times and ticks of allocations and the times
of the ends are told as by how much each is more than the one before."""

WATCHED = TableLayout("watched", ENDINGS.columns)
"""What ended at the addresses that were watched; nothing is told by differences."""

SAMPLES = TableLayout(
    "samples",
    {
        "stack": U32,
        "place": U8,
        "comm": BYTES,
        "time_ns": U64,
        "bytes_req": U64,
        "gfp_flags": U32,
        "cpu": U16,
        "context": U8,
        "taken": U8,
    },
)
"""Some of the allocations that were freed. A place that comes again holds another one, or none (taken: 0)."""

IMPLIED = TableLayout("implied", {"kind": U8, "cache": U64, "bytes": U64, "frees": U64})
"""Implied frees by what they were of; all there are, each time."""

LOSSES = TableLayout(
    "losses",
    {
        "from_ns": U64,
        "to_ns": U64,
        "events": U64,
        "known": U8,
        "slab": U64,
        "vmalloc": U64,
        "percpu": U64,
        "pages": U64,
    },
)
"""When events were lost; of these at most so many were frees of each allocator, if that is known (1)."""

LEVELS = TableLayout("levels", {"time_ns": U64, "every_ns": U64, "stacks": U32, "changed": U32})
"""Samples of what is outstanding by stack; `stacks` were known. The next `changed` rows of `LEVEL_CHANGES` tell the
difference to the sample before."""

LEVEL_CHANGES = TableLayout("level_changes", {"stack": U32, "bytes": U64})

LEVELS_KEPT = TableLayout("levels_kept", {"time_ns": U64})
"""Which of the samples so far are still kept, where some were forgotten."""

MACHINE = TableLayout("machine", {"time_ns": U64, "counter": TEXT, "bytes": U64})
"""What the machine itself says that it uses, as /proc/meminfo names it."""

SUSPECTS = TableLayout(
    "suspects",
    {
        "object": U64,
        "size": U64,
        "kind": TEXT,
        "comm": TEXT,
        "pid": I64,
        "jiffies": U64,
        "age_s": F64,
        "has_age": U8,
        "crc": U32,
        "has_crc": U8,
        "more": U64,
        "line": U64,
        "depth": U32,
    },
)
"""What kmemleak listed, numbered 0, 1, 2, …; the frames are the next `depth` of `SUSPECT_FRAMES`."""

SUSPECT_FRAMES = TableLayout("suspect_frames", {"frame": TEXT})
"""Frames as JSON: address, symbol, offset, size, module, source, inline, printed."""

READINGS = TableLayout("readings", {"reading": U32, "suspect": U32})
"""Which suspects each reading listed, in order. How many readings there were is a fact."""

ANSWERS = TableLayout("answers", {"object": U64, "kind": U8, "tracked": U8})
"""What kmemleak said when it was asked for an object."""

CONTENTS = TableLayout("contents", {"object": U64, "words": BYTES})
"""The complements of the words that objects held."""

EVENT_PARTS = ("object", "time", "jiffies", "shape", "task", "cpu")
"""What `EVENTS` tells of each event, as u64: see `core.capture.events_log`."""

EVENTS = TableLayout("events", {"part": U8, "place": U8, "octets": BYTES})
"""Every event, in the order in which they happened, if all were to be kept: of one of `EVENT_PARTS` (its number) the
byte at a place, the lowest is 0, of all events of the flush. What is not told is 0; the lowest bytes always are."""

EVENTS_PLAIN = TableLayout("events_plain", EVENTS.columns)
"""The same of the low bytes that no compressor makes much smaller: as many at once, for each event in turn, as there
are octets for each."""

EVENT_BATCHES = TableLayout(
    "event_batches", {"events": U32, "time_ns": U64, "jiffies": U32, "newest_ns": U64, "anew": U8}
)
"""The next so many of `EVENTS` came at once; the times are those of the first, and of the last. anew: shapes and
tasks of before are forgotten."""

EVENT_SHAPES = TableLayout(
    "event_shapes",
    {"stack": U64, "call_site": U64, "cache": U64, "flags": U64, "bytes_req": U64, "bytes_alloc": U64},
)
"""What events have in common, numbered 0, 1, 2, …; flags: gfp_flags << 32 | free << 16 | kind << 8 | context."""

EVENT_TASKS = TableLayout("event_tasks", TASKS.columns)
"""Whose events they are, numbered 0, 1, 2, …"""

FLUSHES = TableLayout(
    "flushes",
    {
        "tables": U64,
        "time_ns": U64,
        "jiffies": U64,
        "anew": U8,
        "rows_part": U32,
        "endings_part": U32,
        "unknown_frees": U64,
        "double_events": U64,
        "forgotten_ns": U64,
        "events": U64,
        "last": U8,
    },
)
"""One row for each flush. tables: a bit for each of `TABLES` that it added to. anew: the outstanding rows, origins and
tasks of before are forgotten. rows_part, endings_part: which parts of `ROWS` and of `ENDINGS` it is in. events: how
many there were by then. last: 1, the session has ended and all is here."""

TABLES = (
    *(FACTS, FRAMES, STACKS, STACK_FRAMES, SITES, SITE_KEYS, FUNCTIONS, CACHES, MODULES, PROGRAMS),
    *(LEDGER_STACKS, COUNTERS, CELLS, CELL_COUNTS, ENDINGS, OUTSTANDING, GONE, ORIGINS, TASKS),
    *(
        WATCHED,
        SAMPLES,
        IMPLIED,
        LOSSES,
        LEVELS,
        LEVEL_CHANGES,
        LEVELS_KEPT,
        MACHINE,
        SUSPECTS,
        SUSPECT_FRAMES,
        READINGS,
        ANSWERS,
    ),
    *(CONTENTS, EVENT_SHAPES, EVENT_TASKS, EVENT_BATCHES, EVENTS, EVENTS_PLAIN),
)
"""All but `FLUSHES`, in the order of their bits; new ones are added at the end."""

ROWS = (OUTSTANDING, GONE, ORIGINS, TASKS)
"""What is outstanding."""

PARTS = {**{table.name: "rows_part" for table in ROWS}, ENDINGS.name: "endings_part"}
"""Tables of which only the newest matters are in parts, numbered 0, 1, 2, …: by name, the column of `FLUSHES` that says
in which part a flush is. Parts of `ROWS` begin where it is told anew what is outstanding."""

ENDINGS_A_PART = 1 << 16
"""When so many are told, the next flush begins another part of `ENDINGS`."""

PARTS_KEPT = {"rows_part": 2, "endings_part": 6}
"""How many of the newest parts are kept. Rows: one more than is needed, should the machine go down before the newest is
on the disk. Endings: those of `HISTORY_CAPACITY`, one that grows, and one more."""
