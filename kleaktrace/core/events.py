"""What the probes report: one row per allocation, one per free.

The C side of these layouts is `bpf/records.h`; `edge/ring.py` turns ring bytes into these arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt


class Kind(IntEnum):
    """Which allocator an event came from. Frees match allocations by address, never by kind."""

    KMALLOC = 0
    CACHE = 1  # kmem_cache_alloc
    VMALLOC = 2
    PERCPU = 3  # addresses are per-CPU offsets, a name space of their own


class Context(IntEnum):
    """What the CPU was doing when it allocated (`preempt_count`, include/linux/preempt.h)."""

    TASK = 0
    SOFTIRQ = 1
    HARDIRQ = 2
    NMI = 3
    UNKNOWN = 255  # this kernel does not show its preempt_count; the stack may still tell


ALLOCATION = np.dtype(
    [
        ("sequence", "<u8"),  # place in the event stream; orders allocations and frees of one address
        ("address", "<u8"),
        ("time_ns", "<u8"),  # CLOCK_MONOTONIC
        ("call_site", "<u8"),  # return address into the code that asked
        ("stack", "<u8"),  # key of the call stack, 0: none could be taken
        ("cgroup", "<u8"),
        ("bytes_req", "<u8"),
        ("bytes_alloc", "<u8"),
        ("comm", "S16"),
        ("cache", "<u8"),  # key of the slab cache, 0: a kmalloc, vmalloc or per-CPU allocation
        ("jiffies", "<u4"),  # low 32 bits, as kmemleak will print them
        ("gfp_flags", "<u4"),
        ("tid", "<u4"),
        ("tgid", "<u4"),
        ("cpu", "<u2"),
        ("kind", "u1"),
        ("context", "u1"),
    ]
)
"""One allocation. Only the newest state of an address is kept in the ledger."""

FREE = np.dtype(
    [
        ("sequence", "<u8"),
        ("address", "<u8"),
        ("time_ns", "<u8"),
        ("call_site", "<u8"),
        ("tid", "<u4"),
        ("cpu", "<u2"),
        ("kind", "u1"),
        ("context", "u1"),
    ]
)
"""One free. `call_site` is where, `tid` by whom."""

Rows = npt.NDArray[Any]
"""A structured array of one of the types above."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one look at the ring gave: allocations and frees, each in stream order.

    `sequence` is one numbering over both, so that merging by it restores the order in which the kernel
    handed the events over. For one address that order is the true one: slab frees are reported before
    the object is released, and allocations after it is taken.
    """

    allocations: Rows
    frees: Rows

    @property
    def size(self) -> int:
        """Number of events."""
        return int(self.allocations.size + self.frees.size)


@dataclass(frozen=True, slots=True)
class LossWindow:
    """A stretch of time (ns, CLOCK_MONOTONIC) in which `events` events did not reach us."""

    from_ns: int
    to_ns: int
    events: int
