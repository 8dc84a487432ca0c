# SPDX-License-Identifier: GPL-2.0-or-later
"""How many allocations a turn of a load makes, counted by the kernel's tracepoints and by no tracer under test."""

from __future__ import annotations

import os
import unittest.mock
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_lib.loads import NAME, Loads
from bench_lib.tracers import SHIM

# Events of the first kind are what kleaktrace and memleak trace alike; memleak traces pages as well.
_OBJECTS = ("kmalloc", "kmem_cache_alloc", "kmalloc_node", "kmem_cache_alloc_node")
_PAGES = ("mm_page_alloc",)

_PROGRAM = r"""
BPF_PERCPU_ARRAY(counts, u64, 2);

static inline __attribute__((always_inline)) int count(int kind)
{
	char comm[16] = {};

	bpf_get_current_comm(comm, sizeof(comm));
	if (*(u64 *)comm != COMM || comm[8])
		return 0;
	counts.increment(kind);
	return 0;
}

int count_object(void *ctx) { return count(0); }
int count_page(void *ctx) { return count(1); }
"""


@dataclass(frozen=True, slots=True)
class PerTurn:
    """Allocations that a turn of a load makes, each freed again sooner or later."""

    pairs: float
    pages: float


def count(loads: Loads, kind: str, seconds: float) -> PerTurn:
    """Run a load once, counting. Only what happens under the load's comm: the machine is not idle."""
    bpf = _compiled()
    try:
        for event in _OBJECTS:
            if _has(event):
                bpf.attach_raw_tracepoint(event.encode(), b"count_object")
        for event in _PAGES:
            bpf.attach_raw_tracepoint(event.encode(), b"count_page")
        # No warm-up, because its turns would be counted by us and not by the load.
        before = _counts(bpf)
        turns = loads.run(kind, seconds, warm_up_s=0)
        after = _counts(bpf)
    finally:
        bpf.cleanup()
    objects, pages = (b - a for a, b in zip(before, after, strict=True))
    return PerTurn(objects / turns.turns, pages / turns.turns)


def _compiled() -> Any:
    from bcc import BPF  # type: ignore[import-untyped]

    comm = int.from_bytes(NAME.encode(), "little")
    with unittest.mock.patch.dict(os.environ, BCC_KERNEL_SOURCE=str(SHIM)):
        return BPF(text=_PROGRAM, cflags=[f"-DCOMM={comm:#x}ULL"])


def _has(event: str) -> bool:
    return Path(f"/sys/kernel/tracing/events/kmem/{event}").exists()


def _counts(bpf: Any) -> tuple[int, int]:
    table = bpf["counts"]
    return sum(table[table.Key(0)]), sum(table[table.Key(1)])
