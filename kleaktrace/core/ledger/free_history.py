# SPDX-License-Identifier: GPL-2.0-or-later
"""The most recent allocations that ended, so that a suspect can be told "freed at T by SITE"."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U64, Mask


class Ending(IntEnum):
    """How we know that an allocation ended."""

    FREE = 0  # its free was seen
    IMPLIED = 1  # its address was allocated again, its free was not seen
    UNMATCHED = 2  # a free was seen of something allocated before tracing, or untraced, or lost


CLOSED = np.dtype(
    [
        ("object", "<u8"),
        ("time_ns", "<u8"),  # of the allocation; 0: not known (UNMATCHED)
        ("closed_ns", "<u8"),  # of the free, or of the allocation that implies it
        ("stack", "<u8"),  # of the allocation
        ("free_site", "<u8"),  # call site of the free; IMPLIED: 0
        ("bytes_req", "<u8"),
        ("bytes_alloc", "<u8"),
        ("jiffies", "<u4"),  # of the allocation
        ("closed_tid", "<u4"),  # who freed it; IMPLIED: who has the address now
        ("kind", "u1"),  # of the allocation; UNMATCHED: of the free
        ("ending", "u1"),  # an Ending
    ]
)
"""An allocation that ended, 66 bytes."""

Closed = npt.NDArray[Any]
"""A structured array of CLOSED."""


class ClosedHistory:
    """A ring of the last `capacity` endings; grows up to 66 bytes times that (17 MB at 2**18)."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ring = np.zeros(0, CLOSED)
        self._written = 0
        self._forgotten_ns = 0  # the newest ending that was overwritten
        self.added = 0
        """How many endings ever came."""

    @classmethod
    def restored(cls, capacity: int, closed: Closed, forgotten_ns: int) -> ClosedHistory:
        """One with these endings, in stream order; the newest that it forgot ended at `forgotten_ns`."""
        made = cls(capacity)
        made.add(closed)
        made._forgotten_ns = max(made._forgotten_ns, forgotten_ns)
        return made

    def since(self, added: int) -> Closed:
        """A copy of the endings that came after so many, oldest first, as far as they are still here."""
        held = min(self._written, self._ring.size)
        count = min(self.added - added, held)
        newest = (self._written - count + np.arange(count)) % max(self._ring.size, 1)
        found: Closed = self._ring[newest]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._ring.nbytes

    @property
    def complete_since_ns(self) -> int:
        """Every ending later than this that was ever added is still here; 0: nothing was forgotten."""
        return self._forgotten_ns

    def add(self, closed: Closed) -> None:
        """Append endings, in stream order."""
        self.added += closed.size
        surplus = closed[: max(closed.size - self._capacity, 0)]
        closed = closed[surplus.size :]
        if surplus.size:
            self._forget(self._ring["closed_ns"][: self._written])
            self._forget(surplus["closed_ns"])
            self._written = 0
        self._grow(min(self._written + closed.size, self._capacity))
        if not closed.size:
            return
        start = self._written % self._ring.size
        first = min(closed.size, self._ring.size - start)
        if self._written >= self._ring.size:
            self._forget(self._ring["closed_ns"][start : start + first])
        self._forget(self._ring["closed_ns"][: closed.size - first])
        self._ring[start : start + first] = closed[:first]
        self._ring[: closed.size - first] = closed[first:]
        self._written += closed.size

    def of(self, addresses: U64, percpu: Mask, percpu_kind: int) -> Closed:
        """Return the endings at the addresses, oldest first."""
        held = self._ring[: min(self._written, self._ring.size)]
        start = self._written % self._ring.size if self._written > self._ring.size else 0
        of_percpu = held["kind"] == percpu_kind
        wanted = (np.isin(held["object"], addresses[percpu]) & of_percpu) | (
            np.isin(held["object"], addresses[~percpu]) & ~of_percpu
        )
        at = np.flatnonzero(wanted)
        at = np.concatenate([at[at >= start], at[at < start]])
        found: Closed = held[at]
        return found

    def _grow(self, needed: int) -> None:
        if needed <= self._ring.size:
            return
        larger = np.zeros(min(max(needed, 2 * self._ring.size), self._capacity), CLOSED)
        larger[: self._ring.size] = self._ring
        self._ring = larger

    def _forget(self, closed_ns: U64) -> None:
        if closed_ns.size:
            self._forgotten_ns = max(self._forgotten_ns, int(closed_ns.max()))
