# SPDX-License-Identifier: GPL-2.0-or-later
"""Rests end in time, or when somebody says so. What the kernel says is tested on it: tests/host/test_ring_waiter.py."""

from __future__ import annotations

import os
import threading
import time

from kleaktrace.edge.tracing.ring_waiter import RingWaiter


def test_a_rest_takes_its_time() -> None:
    waiter = RingWaiter([])
    begun = time.monotonic()
    waiter.wait(0.05)
    assert time.monotonic() - begun >= 0.05
    waiter.close()


def test_another_thread_ends_it_and_all_that_come_after() -> None:
    waiter = RingWaiter([])
    threading.Timer(0.05, waiter.stop).start()
    waiter.wait(60)
    waiter.wait(60)
    waiter.close()
    waiter.close()


def test_what_was_there_before_ends_none_and_what_comes_later_does() -> None:
    read, write = os.pipe()
    os.write(write, b"before")
    waiter = RingWaiter([read])
    begun = time.monotonic()
    waiter.wait(0.05)
    assert time.monotonic() - begun >= 0.05
    os.write(write, b"later")
    waiter.wait(60)
    waiter.close()
    for fd in (read, write):
        os.close(fd)
