# SPDX-License-Identifier: GPL-2.0-or-later
"""Work beside the screen of which only the newest counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class NewestOnly(Generic[_Item]):
    """A thread that works on what was asked for last; what nobody waits for any more is left out.

    It is not waited for at the end: some work takes seconds.
    """

    def __init__(self, name: str, work: Callable[[_Item], None], fail: Callable[[BaseException], None]) -> None:
        self._work, self._fail = work, fail
        self._waiting: list[_Item] = []
        self._asked = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more."""
        with self._asked:
            self._ending = True
            self._asked.notify()

    def ask(self, item: _Item) -> None:
        """Have this worked on next."""
        with self._asked:
            self._waiting = [item]
            self._asked.notify()

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._work(item)
        except BaseException as failure:  # shown by whoever waits for us
            self._fail(failure)

    def _next(self) -> _Item | None:
        with self._asked:
            while not self._waiting and not self._ending:
                self._asked.wait()
            return None if self._ending else self._waiting.pop()
