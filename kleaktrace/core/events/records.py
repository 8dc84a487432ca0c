# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes report: one row per allocation, one per free.

The layouts are those of `bpf/records.h`, so that a batch is copied out of the ring without taking it apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

_ALL_BITS = (1 << 64) - 1


def hide(address: int) -> int:
    """The key by which an object goes in rows and tables: the complement of its address. Its own inverse.

    kmemleak takes any word that equals an object's address for a reference to it, and pages are reused uncleared: plain
    addresses in our rings and tables would sooner or later lie in memory that it scans, and hide the leaks we look for.
    """
    return address ^ _ALL_BITS


BLOCK_ORDER_BITS = 4
"""A block of pages is named by the address of its first page's struct page, with its order in so many low bits."""


def address_of(kind: int, name: int) -> int:
    """The address of an object by its kind and its name in rows: of pages, that of their first struct page."""
    address = hide(name)
    return address >> BLOCK_ORDER_BITS << BLOCK_ORDER_BITS if kind == Kind.PAGES else address


def comm_text(comm: bytes) -> str:
    """A task's name in words: what lies behind its NUL is left over from a longer one."""
    return comm.partition(b"\0")[0].decode(errors="backslashreplace")


class Kind(IntEnum):
    """Which allocator an event came from. Frees match allocations by address, never by kind."""

    KMALLOC = 0
    CACHE = 1  # kmem_cache_alloc
    VMALLOC = 2
    PERCPU = 3  # addresses are per-CPU offsets, a name space of their own
    PAGES = 4  # blocks of pages, which no other allocator's object has an address of: see `address_of`


class Context(IntEnum):
    """What the CPU was doing when it allocated (`preempt_count`, include/linux/preempt.h)."""

    TASK = 0
    SOFTIRQ = 1
    HARDIRQ = 2
    NMI = 3
    UNKNOWN = 255  # this kernel does not show its preempt_count; the stack may still tell


_CONTEXTS = {int(context): context for context in Context}


def context_told(event: int, stack: Context) -> Context:
    """The context by what an event says, or, where this kernel's events do not say, by what its call stack does.

    On PREEMPT_RT a softirq runs in a task, and counts in that, not in preempt_count (kernel/softirq.c).
    """
    is_told_by_stack = event == Context.UNKNOWN or (event == Context.TASK and stack is Context.SOFTIRQ)
    return stack if is_told_by_stack else _CONTEXTS[event]


UNIT = 64
"""Bytes of one unit of the event ring: a free takes one, an allocation two."""

SECOND_UNIT = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
"""What the second unit of an allocation starts with."""

# bpf/records.h. The ring's own 8-byte header comes first; once read, its place holds the sequence number.
_FIRST_UNIT = [
    ("sequence", "<u8"),  # place in the event stream; orders allocations and frees of one address
    ("object", "<u8"),  # whose: its address, hidden
    ("time_ns", "<u8"),  # CLOCK_MONOTONIC
    ("call_site", "<u8"),  # return address into the code that asked, or that freed; 0: see the stack
    ("stack", "<u8"),  # key of the call stack, 0: none could be taken
    ("cgroup", "<u8"),
    ("tid", "<u4"),
    ("tgid", "<u4"),
    ("jiffies", "<u4"),  # low 32 bits, as kmemleak will print them
    ("cpu", "<u2"),
    ("kind", "u1"),
    ("context", "u1"),
]

FREE = np.dtype(_FIRST_UNIT)
"""One free. `call_site` is where (from the tracer on a key, see `CallSites`), `tid` by whom; it has no stack, cgroup or
context."""

ALLOCATION = np.dtype(
    [
        *_FIRST_UNIT,
        ("second_unit", "<u8"),
        ("comm", "S16"),
        ("bytes_req", "<u8"),
        ("bytes_alloc", "<u8"),
        ("cache", "<u8"),  # key of the slab cache, of pages their order, 0: a kmalloc, vmalloc or per-CPU allocation
        ("gfp_flags", "<u4"),
        ("reserved", "<u4"),
        ("reserved_too", "<u8"),
    ]
)
"""One allocation."""

Rows = npt.NDArray[Any]
"""A structured array of one of the types above."""


def may_be_task(rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows are of a task, or of what this kernel's events do not tell of."""
    may: npt.NDArray[np.bool_] = (rows["context"] == Context.TASK) | (rows["context"] == Context.UNKNOWN)
    return may


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

    @property
    def newest_ns(self) -> int:
        """When the last of them happened (CLOCK_MONOTONIC); 0 if there is none."""
        return max((int(rows["time_ns"][-1]) for rows in (self.allocations, self.frees) if rows.size), default=0)
