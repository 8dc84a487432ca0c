# SPDX-License-Identifier: GPL-2.0-or-later
"""The BPF ring buffers, mapped and read as numpy arrays.

Layout (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst): the consumer's page, writable; the producer's page; the
data, mapped twice in a row so that no record wraps. A record is a header (u32 length with two flag bits, u32 page
offset) and the payload, rounded up to 8 bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kleaktrace.core.events.records import ALLOCATION, FREE, SECOND_UNIT, UNIT, Batch

_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEADER = 8
_WORDS = UNIT // 8
_SECOND_UNIT = np.uint32(SECOND_UNIT & np.uint64(0xFFFF_FFFF))
_BATCH_UNITS = 1 << 17
"""Units taken at once at most: 8 MiB, twice what is meant to come (session/drain_interval.py)."""


class _Ring:
    """A mapped ring buffer of `size` bytes (a power of two of pages)."""

    def __init__(self, map_fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = size
        self._consumer = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(map_fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumed: npt.NDArray[np.uint64] = np.frombuffer(self._consumer, np.uint64, 1)
        self._produced: npt.NDArray[np.uint64] = np.frombuffer(self._producer, np.uint64, 1)
        self._data: npt.NDArray[np.uint8] = np.frombuffer(self._producer, np.uint8, 2 * size, offset=page)
        self._position = int(self._consumed[0])

    @property
    def pending(self) -> int:
        """Bytes written and not taken yet."""
        return int(self._produced[0]) - self._position

    @property
    def produced(self) -> int:
        """Bytes written since the beginning."""
        return int(self._produced[0])

    @property
    def taken(self) -> int:
        """Bytes taken since the beginning."""
        return self._position

    def _advance(self, length: int) -> None:
        self._position += length
        self._consumed[0] = self._position

    def close(self) -> None:
        """Unmap."""
        del self._consumed, self._produced, self._data
        self._producer.close()
        self._consumer.close()


class EventRing(_Ring):
    """The ring of allocations and frees."""

    def take(self) -> Batch:
        """Copy out what is complete, up to a bound, in the order in which it was reserved."""
        count = min(self.pending // UNIT, _BATCH_UNITS)
        if not count:
            return Batch(np.zeros(0, ALLOCATION), np.zeros(0, FREE))
        offset = self._position & (self.size - 1)
        units = self._data[offset : offset + count * UNIT].view(np.uint64).reshape(count, _WORDS)
        # The copy comes first: what is committed now stays so, and a column of a hot ring is slow to go over twice.
        headers = units[:, 0].astype(np.uint32)  # length and flags; the other half is the page offset
        busy = (headers >= _BUSY) & (headers != _SECOND_UNIT)
        if busy.any():
            count = int(busy.argmax())
            headers = headers[:count]
        # Discarded ones keep their flag, and so have no length of ours.
        first_units = np.flatnonzero(headers == ALLOCATION.itemsize - _HEADER)
        if first_units.size and first_units[-1] + 1 == count:
            # cut by the batch bound between its two units
            count -= 1
            first_units = first_units[:-1]
        frees_at = np.flatnonzero(headers[:count] == FREE.itemsize - _HEADER)
        sequence = np.uint64(self._position // UNIT)
        # `take` copies units as wholes, four times as fast as indexing does.
        allocated = units.take(np.stack([first_units, first_units + 1], axis=1), axis=0).reshape(-1, 2 * _WORDS)
        allocated[:, 0] = first_units.astype(np.uint64) + sequence
        freed = units.take(frees_at, axis=0)
        freed[:, 0] = frees_at.astype(np.uint64) + sequence
        self._advance(count * UNIT)
        return Batch(allocated.view(ALLOCATION).reshape(-1), freed.view(FREE).reshape(-1))


class NameRing(_Ring):
    """The ring of things said once; records of any length."""

    def take(self) -> Iterator[bytes]:
        """Payloads of the complete records, oldest first."""
        while self.pending >= _HEADER:
            offset = self._position & (self.size - 1)
            header = int(self._data[offset : offset + 4].view(np.uint32)[0])
            if header & _BUSY:
                return
            length = header & (_DISCARDED - 1)
            payload = self._data[offset + _HEADER : offset + _HEADER + length].tobytes()
            self._advance((length + _HEADER + 7) // 8 * 8)
            if not header & _DISCARDED:
                yield payload
