# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports to show: made by hand, the same every time."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from kleaktrace.core.events.coverage import Coverage
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Context
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.stack_evidence import Siblings
from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.growth.detection import Growing
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.ledger.ledger import Totals
from kleaktrace.core.report import Kernel, Outcome, Report, Window
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.symbol_table import Frame

SECOND = 1_000_000_000
START_NS = 500 * SECOND
EVIL = "\x1b[2J\x1b]0;owned\x07"
STACK = Stack(
    (
        Frame(0xFFFFFFFFC0100022, "drv_probe", 0x22, 0x100, "drv"),
        Frame(0xFFFFFFFF81003022, "do_one_initcall", 0x22, 0x1000),
    ),
    Context.TASK,
)


def judged(**fields: object) -> JudgedSuspect:
    known: dict[str, object] = {
        "source": "kmemleak",
        "address": 0xFFFF888100010000,
        "size": 128,
        "verdict": Verdict.CONFIRMED,
        "reason": "not freed, and nothing has pointed to it in 3 scans",
        "age_s": 21.5,
        "comm": "insmod",
        "pid": 42,
        "context": Context.TASK,
        "cache": "kmalloc-128",
        "stack": tuple(STACK.lines()),
        "bytes_req": 100,
        "bytes_alloc": 128,
        "siblings": Siblings(1, 0, 1, 128),
    }
    return JudgedSuspect(**{**known, **fields})  # type: ignore[arg-type]


def group(**fields: object) -> AllocationGroup:
    known: dict[str, object] = {
        "label": "kmalloc-128",
        "stack": STACK,
        "cache": "kmalloc-128",
        "contexts": frozenset({Context.TASK}),
        "comm": "insmod",
        "count": 3,
        "bytes": 384,
        "oldest_ns": START_NS + 10 * SECOND,
        "stack_keys": (1,),
    }
    return AllocationGroup(**{**known, **fields})  # type: ignore[arg-type]


def growing_stack(**fields: object) -> GrowingStack:
    figures = Growing(1, 340, 43_520, 1229.0, (1126.0, 1331.0), 0.12, (0.1, 0.15), START_NS + SECOND)
    known: dict[str, object] = {
        "frames": STACK.frames,
        "growing": figures,
        "context": "task",
        "comm": "insmod",
        "cache": "kmalloc-128",
    }
    return GrowingStack(**{**known, **fields})  # type: ignore[arg-type]


def report(**fields: object) -> Report:
    known: dict[str, object] = {
        "kernel": Kernel("6.12.0", "x86_64"),
        "window": Window(datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), START_NS, 31.5),
        "coverage": (Coverage("kmalloc", "raw_tracepoint:kmalloc"), Coverage("percpu", None, "are not seen")),
        "loss": Loss(),
        "totals": Totals(1204, 1180, 24, 3072, 0, 7, 0),
        "suspects": (),
        "outstanding": (group(),),
        "outcome": Outcome.CLEAN,
    }
    return Report(**{**known, **fields})  # type: ignore[arg-type]


def console(width: int = 100) -> Console:
    """Of a fixed width, onto paper: no colours, nothing highlighted."""
    return Console(file=io.StringIO(), width=width, highlight=False, color_system=None)


def printed(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()
