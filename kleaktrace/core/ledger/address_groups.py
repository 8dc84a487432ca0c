# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the events of one batch in groups of equal address, each in stream order.

A stable sort by the 16 high bits of a hash of the address does it: numpy sorts 16-bit keys by radix, whatever they are.
What shares those bits with another address is little, as most events of a batch are of few addresses; it is sorted once
more by all of the hash. The hash is that of `AddressIndex`, so the groups come out in the order of the table's slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import spread
from kleaktrace.core.arrays.types import U64, Index, Mask

_BELOW_HIGH = np.uint64(48)


@dataclass(frozen=True, slots=True)
class AddressGroups:
    """Events grouped by address. All arrays follow the order of `events`."""

    events: Index
    """Numbers of the events, as in the arrays that went in; equal keys adjacent, then by sequence."""
    keys: U64
    head: Mask
    """Is this the first event of its key?"""


def group_by_address(keys: U64, sequence: U64) -> AddressGroups:
    """Group events by key, in order of sequence; every sequence number occurs once."""
    hashes = spread(keys)
    stream = np.argsort(sequence, kind="stable")  # allocations, then frees: only to be merged
    high = (hashes >> _BELOW_HIGH).astype(np.uint16).take(stream)
    order = np.argsort(high, kind="stable")
    events, high = stream.take(order), high.take(order)
    sorted_keys = keys.take(events)
    head, starts = _differs_from_previous(sorted_keys), _differs_from_previous(high)
    if np.count_nonzero(head) != np.count_nonzero(starts):
        shared = np.zeros(1 << 16, np.bool_)
        shared[high[head & ~starts]] = True
        mixed = shared.take(high).nonzero()[0]
        events[mixed] = _by_hash(events.take(mixed), hashes)
        sorted_keys[mixed] = keys.take(events.take(mixed))
        head = _differs_from_previous(sorted_keys)
    return AddressGroups(events, sorted_keys, head)


def _by_hash(events: Index, hashes: U64) -> Index:
    """Sort events by their hashes, those with the same hash left in order. Different keys have different hashes.

    One unstable sort of single u64s will do, high bits of a hash and below them the place: numpy has SIMD for that.
    """
    hashes = hashes.take(events)
    low = np.uint64((1 << events.size.bit_length()) - 1)
    packed = hashes & ~low
    packed |= np.arange(events.size, dtype=np.uint64)
    packed.sort()
    order = (packed & low).view(np.intp)
    in_order = hashes.take(order)
    if (in_order[1:] < in_order[:-1]).any():  # keys share even these bits: rare, so slow will do
        order = np.argsort(hashes, kind="stable")
    return events.take(order)


def _differs_from_previous(values: npt.NDArray[np.unsignedinteger]) -> Mask:
    differs = np.ones(values.size, np.bool_)
    np.not_equal(values[1:], values[:-1], out=differs[1:])
    return differs
