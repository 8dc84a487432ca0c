# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparisons to show and to judge: made by hand, the same every time."""

from __future__ import annotations

from recordings import KERNEL, STARTED
from reports import STACK

from kleaktrace.core.comparison.common_stacks import CompareBy
from kleaktrace.core.comparison.comparison import Amount, Because, Change, ChangeKind, Comparison, Side
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.leaked_objects.leaks import stack_key
from kleaktrace.core.tables.stack_rows import StackVerdict


def change(**fields: object) -> Change:
    """A stack of the driver that leaves 12 objects behind in a minute, and left none."""
    known: dict[str, object] = {
        "key": stack_key(STACK.lines()),
        "frames": STACK.frames,
        "requester_at": 0,
        "lines": tuple(STACK.lines()),
        "kind": ChangeKind.NEW,
        "because": (Because.COUNTS,),
        "before": Amount(0, 0, 0, None),
        "after": Amount(12, 1536, 1204, StackVerdict.ALIVE),
        "objects": Interval(12.0, 4.0, 30.0),
        "bytes": Interval(1536.0, 512.0, 3840.0),
        "bytes_per_unit": Interval(25.6, 8.5, 64.0),
        "cache": "kmalloc-128",
        "context": "task",
        "comm": "insmod",
    }
    return Change(**{**known, **fields})  # type: ignore[arg-type]


def new_leak(**fields: object) -> Change:
    """The same, and confirmed."""
    after = Amount(12, 1536, 1204, StackVerdict.CONFIRMED)
    return change(**{"because": (Because.LEAK, Because.COUNTS), "after": after, **fields})


def side(**fields: object) -> Side:
    known: dict[str, object] = {
        "kernel": KERNEL,
        "started": STARTED,
        "seconds": 60.0,
        "units": 60.0,
        "verdict": "clean",
        "lost": 0,
    }
    return Side(**{**known, **fields})  # type: ignore[arg-type]


def comparison(**fields: object) -> Comparison:
    known: dict[str, object] = {
        "by": CompareBy.STACK,
        "unit": "second",
        "before": side(),
        "after": side(verdict="leaks"),
        "compared": 214,
        "changes": (change(),),
        "kept": (),
    }
    return Comparison(**{**known, **fields})  # type: ignore[arg-type]
