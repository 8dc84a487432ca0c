"""Rests end in time, or when somebody says so. What the kernel says is tested on it: tests/host/test_rest.py."""

from __future__ import annotations

import os
import threading
import time

from kleaktrace.edge.tracing.ring_waiter import Rest


def test_a_rest_takes_its_time() -> None:
    rest = Rest([])
    begun = time.monotonic()
    rest.take(0.05)
    assert time.monotonic() - begun >= 0.05
    rest.close()


def test_another_thread_ends_it_and_all_that_come_after() -> None:
    rest = Rest([])
    threading.Timer(0.05, rest.end).start()
    rest.take(60)
    rest.take(60)
    rest.close()
    rest.close()


def test_what_was_there_before_ends_none_and_what_comes_later_does() -> None:
    read, write = os.pipe()
    os.write(write, b"before")
    rest = Rest([read])
    begun = time.monotonic()
    rest.take(0.05)
    assert time.monotonic() - begun >= 0.05
    os.write(write, b"later")
    rest.take(60)
    rest.close()
    for fd in (read, write):
        os.close(fd)
