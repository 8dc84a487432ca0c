# SPDX-License-Identifier: GPL-2.0-or-later
"""What each event of a batch meets: nothing, an allocation of the same batch, or one in the table.

For one address the state before an event follows from the event before it: after an allocation it is
outstanding, after a free it is not. Only for the first event of an address does the table decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.hash_index import AddressIndex
from kleaktrace.core.arrays.types import U64, Index, Mask
from kleaktrace.core.events.records import Kind, Rows
from kleaktrace.core.ledger.address_groups import group_by_address

_DOUBLE_EVENT_NS = 1_000_000
_DOUBLE_EVENT_MIN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Matches:
    """Numbers of events (within allocations, within frees) and of table rows; arrays of one kind run parallel."""

    paired_allocations: Index
    """Allocations freed within the batch, by `paired_frees`."""
    paired_frees: Index

    freed_rows: Index
    """Table rows freed, by `row_frees`."""
    row_frees: Index

    unknown_frees: Index
    """Frees of what was not outstanding."""

    reallocations: Reallocations
    """Allocations that met an outstanding one."""

    removed_rows: Index
    """Table rows to take out, and their slots."""
    removed_slots: Index
    kept_rows: Index
    """Table rows to overwrite with `kept_allocations`."""
    kept_allocations: Index
    new_allocations: Index
    """Allocations to enter anew, at `new_keys`."""
    new_keys: U64


@dataclass(frozen=True, slots=True)
class Reallocations:
    """Allocations `newer` at addresses outstanding by table row `rows` or, where that is -1, allocation `older`.

    In stream order for each address; `follows` tells that an entry's `newer` is the `older` of this one.
    """

    rows: Index
    older: Index
    newer: Index
    follows: Mask


def match_events(allocation_keys: U64, free_keys: U64, sequence: U64, table: AddressIndex) -> Matches:
    """Match the events of one batch; `sequence` of the allocations, then of the frees. Changes nothing."""
    groups = group_by_address(np.concatenate([allocation_keys, free_keys]), sequence)
    events, count = groups.events, allocation_keys.size
    is_allocation = events < count
    after_allocation = np.zeros(events.size, np.bool_)
    after_allocation[1:] = is_allocation[:-1]
    after_allocation &= ~groups.head
    heads = np.flatnonzero(groups.head)
    head_keys = groups.keys[heads]
    tails = np.append(heads[1:], events.size) - 1
    rows, slots = table.find(head_keys)

    known, opens = rows >= 0, is_allocation[heads]
    paired = np.flatnonzero(after_allocation & ~is_allocation)
    freed = np.flatnonzero(known & ~opens)
    unmatched = ~is_allocation & ~after_allocation
    unmatched[heads[freed]] = False
    ends_open = is_allocation[tails]
    removed = np.flatnonzero(known & ~ends_open)
    kept = np.flatnonzero(known & ends_open)
    new = np.flatnonzero(~known & ends_open)
    reallocated = after_allocation & is_allocation
    met = np.flatnonzero(known & opens)
    if met.size:
        reallocated[heads[met]] = True
    return Matches(
        paired_allocations=events[paired - 1],
        paired_frees=events[paired] - count,
        freed_rows=rows[freed],
        row_frees=events[heads[freed]] - count,
        unknown_frees=events[np.flatnonzero(unmatched)] - count,
        reallocations=_reallocations(events, np.flatnonzero(reallocated), heads[met], rows[met]),
        removed_rows=rows[removed],
        removed_slots=slots[removed],
        kept_rows=rows[kept],
        kept_allocations=events[tails[kept]],
        new_allocations=events[tails[new]],
        new_keys=head_keys[new],
    )


def _reallocations(events: Index, at: Index, heads: Index, head_rows: Index) -> Reallocations:
    rows = np.full(at.size, -1)
    rows[np.searchsorted(at, heads)] = head_rows
    return Reallocations(
        rows=rows,
        older=np.where(rows < 0, events[at - 1], -1),
        newer=events[at],
        follows=(rows < 0) & (np.diff(at, prepend=-2) == 1),
    )


def is_double_event(first: Rows, second: Rows) -> Mask:
    """Tell, element by element, whether two successive allocation events of one address may be one allocation.

    A kmalloc too large for the slab caches is reported twice: `__do_kmalloc_node` calls
    `__kmalloc_large_node`, which fires the kmalloc event with a call site inside the allocator, and then
    fires it again with that of its caller (mm/slub.c, Linux 6.12).
    All but the call site, the stack and the clock agree; the second is the one to keep. Anything else at an
    outstanding address means that a free was missed.
    """
    same: Mask = (first["kind"] == Kind.KMALLOC) & (second["kind"] == Kind.KMALLOC)
    for field in ("tid", "bytes_req", "bytes_alloc", "gfp_flags"):
        same &= first[field] == second[field]
    same &= first["call_site"] != second["call_site"]
    same &= first["bytes_alloc"] >= np.uint64(_DOUBLE_EVENT_MIN_BYTES)
    jiffies_apart = second["jiffies"] - first["jiffies"] + np.uint32(1)  # modulo 2**32: 0, 1 and 2 will do
    same &= jiffies_apart <= 2
    earlier = np.minimum(first["time_ns"], second["time_ns"])
    same &= np.maximum(first["time_ns"], second["time_ns"]) - earlier <= _DOUBLE_EVENT_NS
    return same


def second_of_two(alike: Mask, follows: Mask, first_was_second: Mask) -> Mask:
    """Tell which of the events that are `alike` the one before are second events: every other one of a run.

    A third event just like the first two is the first event of another allocation, the free between missed.
    `follows` tells that an entry goes on where the one before it ended; `first_was_second` that what an entry
    is compared with was a second event itself, known from an earlier batch.
    """
    number = np.arange(alike.size)
    goes_on = np.zeros(alike.size, np.bool_)
    goes_on[1:] = alike[:-1]
    goes_on &= follows
    start = np.maximum.accumulate(np.where(goes_on, 0, number))
    second: Mask = alike & ((number - start + first_was_second[start]) % 2 == 0)
    return second
