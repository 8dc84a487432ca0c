# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends a long command in order: Ctrl-C, SIGTERM and SIGHUP come as KeyboardInterrupt, where we can take it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

_Handler = Callable[[int, FrameType | None], Any]


class Sleeper(Protocol):
    """Sleeps, unless we are asked to end."""

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise KeyboardInterrupt if we are asked to end, or have been."""


@contextmanager
def _handling(numbers: tuple[signal.Signals, ...], handler: _Handler) -> Iterator[None]:
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


class DeferredInterrupt:
    """Being asked to end raises KeyboardInterrupt in `sleep` only, so that nothing is left half printed.

    A context manager. Asked again before that, it is raised wherever we are: what we are doing may hang.
    """

    def __init__(self) -> None:
        self._asked = False
        self._sleeping = False
        self._handling = _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), self._ask)

    @property
    def asked(self) -> bool:
        """Whether we are asked to end, and did not take it yet."""
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if self._sleeping or again:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise KeyboardInterrupt if we are asked to end, or have been."""
        try:
            self._sleeping = True
            if self._asked:
                raise KeyboardInterrupt
            time.sleep(seconds)
        except KeyboardInterrupt:
            self._asked = False
            raise
        finally:
            self._sleeping = False

    def sleep_before(self, end: float | None, seconds: float) -> bool:
        """Sleep, but not past the end (time.monotonic(), None: never); whether the end is still to come."""
        self.sleep(seconds if end is None else max(min(seconds, end - time.monotonic()), 0))
        return end is None or time.monotonic() < end

    def __enter__(self) -> DeferredInterrupt:
        self._handling.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        self._handling.__exit__(*reason)
