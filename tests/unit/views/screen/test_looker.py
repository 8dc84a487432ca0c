# SPDX-License-Identifier: GPL-2.0-or-later
"""Who looks beside the screen: at once when something is asked, and seldom when looking costs much."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from made_up_feed import MadeUpFeed

from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.live_table.arrangement import Arrangement
from kleaktrace.core.live_table.live_table import Asked
from kleaktrace.errors import EvidenceLost
from kleaktrace.views.screen import looker as module
from kleaktrace.views.screen.looker import Looker, Shown, Wanted
from kleaktrace.views.screen.newest_only import NewestOnly

WANTED = Wanted(Asked(), Arrangement())


class Watching:
    """A looker, and all that it has shown."""

    def __init__(self, feed: MadeUpFeed) -> None:
        self.feed = feed
        self.shown: list[Shown] = []
        self.failures: list[BaseException] = []
        self.looker = Looker(feed, WANTED, self.shown.append, self.failures.append)

    def wait(self, many: int) -> None:
        deadline = time.monotonic() + 30
        while len(self.shown) < many:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def watching() -> Iterator[Watching]:
    watching = Watching(MadeUpFeed())
    watching.looker.start()
    yield watching
    watching.looker.stop()


def test_what_is_asked_is_shown_at_once_and_only_another_question_is_another_look(watching: Watching) -> None:
    watching.wait(1)
    watching.looker.want(Wanted(Asked(), Arrangement(reverse=True), paused=True))
    watching.wait(2)
    assert watching.feed.looks == 1
    watching.looker.want(Wanted(Asked(GroupBy.PID), Arrangement(), paused=True))
    watching.wait(3)
    assert watching.feed.looks == 2
    assert watching.shown[-1].seen.table.asked.by is GroupBy.PID


@pytest.mark.parametrize(("took_s", "rest_s"), [(0.001, 1.0), (0.1, 3.0), (1.0, 5.0)])
def test_the_more_a_look_costs_the_longer_is_the_rest(
    monkeypatch: pytest.MonkeyPatch, took_s: float, rest_s: float
) -> None:
    watching = Watching(MadeUpFeed())
    clock = iter(range(0, 10**12, round(took_s * 1e9)))
    monkeypatch.setattr(module.time, "thread_time_ns", lambda: next(clock))
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.0)
    watching.looker._look(WANTED)
    assert watching.looker._due == pytest.approx(100 + rest_s)


def test_what_a_look_raises_is_told() -> None:
    watching = Watching(MadeUpFeed())
    watching.feed.fails = EvidenceLost("gone")
    watching.looker.start()
    watching.looker.stop()
    assert watching.failures == [watching.feed.fails]
    assert watching.shown == []


def test_of_what_waits_only_the_newest_is_worked_on() -> None:
    done: list[int] = []
    begun, go_on, last = threading.Event(), threading.Event(), threading.Event()

    def work(number: int) -> None:
        done.append(number)
        begun.set()
        assert go_on.wait(30)
        if number == 3:
            last.set()

    worker = NewestOnly[int]("worker", work, lambda failure: None)
    worker.start()
    worker.ask(1)
    assert begun.wait(30)
    worker.ask(2)
    worker.ask(3)
    go_on.set()
    assert last.wait(30)
    worker.stop()
    assert done == [1, 3]
