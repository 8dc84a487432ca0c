# SPDX-License-Identifier: GPL-2.0-or-later
"""Waits until it is time to poll, or until the kernel or another thread says that it must be now."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable


class RingWaiter:
    """Waits on BPF ring buffers, as long as no program hands over a record with BPF_RB_FORCE_WAKEUP.

    Records that were in a ring before end no wait: epoll is told to report new wake-ups only (EPOLLET), of which a ring
    has none for records with BPF_RB_NO_WAKEUP (kernel/bpf/ringbuf.c).
    """

    def __init__(self, rings: Iterable[int]) -> None:
        """`rings` are file descriptors of BPF ring buffers."""
        self._stopped = os.eventfd(0)
        self._epoll = select.epoll()
        self._epoll.register(self._stopped, select.EPOLLIN)
        for ring in rings:
            self._epoll.register(ring, select.EPOLLIN | select.EPOLLET)
        self._epoll.poll(0)  # a descriptor that was just registered is reported once, whatever its state

    def wait(self, seconds: float) -> None:
        """Return after so long, or earlier."""
        self._epoll.poll(seconds)

    def stop(self) -> None:
        """End all waiting, now and from now on, in any thread."""
        os.eventfd_write(self._stopped, 1)

    def close(self) -> None:
        """No thread may be waiting any more. May be called twice."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._stopped)
