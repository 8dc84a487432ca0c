"""Resting until it is time, or until the kernel or another thread says that it must not wait."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable


class Rest:
    """Rests that end when a program hands over a record with BPF_RB_FORCE_WAKEUP, or somebody calls `end`.

    What waits in a ring already ends none: epoll is told to look out for new wake-ups only (EPOLLET), of which a ring
    has none for records with BPF_RB_NO_WAKEUP (kernel/bpf/ringbuf.c).
    """

    def __init__(self, rings: Iterable[int]) -> None:
        """`rings` are file descriptors of BPF ring buffers."""
        self._ended = os.eventfd(0)
        self._epoll = select.epoll()
        self._epoll.register(self._ended, select.EPOLLIN)
        for ring in rings:
            self._epoll.register(ring, select.EPOLLIN | select.EPOLLET)
        self._epoll.poll(0)  # as they are new to it, it takes everything for news

    def take(self, seconds: float) -> None:
        """Rest for so long at most."""
        self._epoll.poll(seconds)

    def end(self) -> None:
        """There is no rest from now on, in any thread."""
        os.eventfd_write(self._ended, 1)

    def close(self) -> None:
        """No thread may be at rest any more. May be called twice."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._ended)
