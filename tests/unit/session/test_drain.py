# SPDX-License-Identifier: GPL-2.0-or-later
"""A drain that always has more to do lets in those who wait to look."""

from __future__ import annotations

import threading

import pytest
from made_up_source import MadeUpSource

from kleaktrace.session import drain as drain_module
from kleaktrace.session.drain import Drain


def test_who_waits_to_look_is_next_however_busy_the_drain_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "_GIVE_WAY_S", 60)
    source = MadeUpSource()
    source.backlog = 1.0
    polls, entered, go_on, asked = [0], threading.Event(), threading.Event(), threading.Event()

    def count() -> None:
        polls[0] += 1
        if asked.is_set():
            entered.set()
            go_on.wait()

    source.before_poll = count
    drain = Drain(source)
    seen: list[int] = []

    def look() -> None:
        with drain.held():
            seen.append(polls[0])

    asked.set()
    entered.wait()  # within a poll, with the lock held
    asked.clear()
    before = polls[0]
    looker = threading.Thread(target=look)
    looker.start()
    while not drain._lookers:
        pass
    go_on.set()
    looker.join()
    drain.finish()
    assert seen == [before]
