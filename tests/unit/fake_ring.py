# SPDX-License-Identifier: GPL-2.0-or-later
"""A ring buffer as the kernel maps it, in a memory file; the test plays the kernel."""

from __future__ import annotations

import mmap
import os

PAGE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30
HEADER = 8


class FakeRing:
    """Consumer's page, producer's page, and the data twice: no file maps doubled, so each byte is written twice.

    `position` is how far the ring has run before the test, in bytes.
    """

    def __init__(self, size: int, position: int = 0) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * size)
        self._memory = mmap.mmap(self.fd, 0)
        self._produced = position
        self._put_counter(0, position)
        self._put_counter(PAGE, position)

    def _put_counter(self, at: int, value: int) -> None:
        self._memory[at : at + 8] = value.to_bytes(8, "little")

    @property
    def consumed(self) -> int:
        return int.from_bytes(self._memory[:8], "little")

    def _write(self, position: int, data: bytes) -> None:
        start = position % self.size
        whole = self._memory
        for at, byte in enumerate(data, start):
            for place in (at % self.size, at % self.size + self.size):
                whole[2 * PAGE + place] = byte

    def reserve(self, length: int) -> int | None:
        """bpf_ringbuf_reserve(): the record's position, None if there is no room. What lies there stays."""
        whole = (length + HEADER + 7) // 8 * 8
        if self._produced + whole - self.consumed > self.size:
            return None
        position = self._produced
        page_offset = (position % self.size) // PAGE + 3
        self._write(position, (length | BUSY | page_offset << 32).to_bytes(8, "little"))
        self._produced += whole
        self._put_counter(PAGE, self._produced)
        return position

    def commit(self, position: int, payload: bytes, flags: int = 0) -> None:
        """bpf_ringbuf_submit(), or bpf_ringbuf_discard() with the flag DISCARDED."""
        self._write(position + HEADER, payload)
        self._write(position, (len(payload) | flags).to_bytes(4, "little"))

    def put(self, payload: bytes) -> None:
        position = self.reserve(len(payload))
        assert position is not None
        self.commit(position, payload)

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)
