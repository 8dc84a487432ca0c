# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at the session again and again beside the screen, seldom enough to take little of a processor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kleaktrace.core.arrays.types import Index
from kleaktrace.core.live_table.arrangement import Arrangement, Arranger
from kleaktrace.core.live_table.live_table import Asked
from kleaktrace.core.live_table.stack_verdicts import StackVerdicts
from kleaktrace.views.screen.feed import Feed, Seen

_EVERY_S, _LONGEST_S = 1.0, 5.0
_SHARE = 30
"""Looking takes at most one in so many seconds of a processor; but what is put in words only once, and may take a
second, is no reason to stand still."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the reader wants to see. paused: of what was seen last."""

    asked: Asked
    arrangement: Arrangement
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What is to be shown: a look, the groups in their order, and the verdicts with their ranks by group."""

    seen: Seen
    order: Index
    verdicts: StackVerdicts
    ranks: Index


class Looker:
    """A thread that looks, from `start` until `stop`. `show` and `fail` are called in it."""

    def __init__(
        self, feed: Feed, wanted: Wanted, show: Callable[[Shown], None], fail: Callable[[BaseException], None]
    ) -> None:
        self._feed, self._show, self._fail = feed, show, fail
        self._wanted = wanted
        self._seen: Seen | None = None
        self._due = 0.0
        self._arranger = Arranger()
        self._asked = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="looker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is shown any more once it returns."""
        self._ending = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    def want(self, wanted: Wanted) -> None:
        """Show this from now on, and at once."""
        self._wanted = wanted
        self._asked.set()

    def _run(self) -> None:
        try:
            while not self._ending:
                self._asked.clear()
                self._look(self._wanted)
                self._asked.wait(max(self._due - time.monotonic(), 0))
        except BaseException as failure:  # shown by whoever waits for us
            self._fail(failure)

    def _look(self, wanted: Wanted) -> None:
        """Look, if it is time or something else is asked; and arrange what was seen."""
        begun, begun_ns = time.monotonic(), time.thread_time_ns()
        due = begun >= self._due
        if self._seen is None or self._seen.table.asked != wanted.asked or (due and not wanted.paused):
            self._seen, due = self._feed.look(wanted.asked), True
        table, verdicts = self._seen.table, self._feed.verdicts
        order = self._arranger.arranged(table, wanted.arrangement, verdicts)
        shown = Shown(self._seen, order, verdicts, verdicts.ranks(table))
        table.net_bytes  # noqa: B018 (worked out here, and not while the screen is drawn)
        took_s = (time.thread_time_ns() - begun_ns) / 1e9
        if due:
            self._due = begun + min(max(_EVERY_S, _SHARE * took_s), _LONGEST_S)
        if not self._ending:
            self._show(shown)
