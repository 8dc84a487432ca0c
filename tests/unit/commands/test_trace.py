# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of `trace` and the drain: what takes long must not hold up what must not wait."""

from __future__ import annotations

import pytest
from builders import SECOND, START_JIFFIES, START_NS, Scene

from kleaktrace.commands import trace
from kleaktrace.core.events.clock import Moment
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.session.session import Counts


class SessionOf:
    """As much of a `Session` as a table needs."""

    def __init__(self, scene: Scene) -> None:
        self._ledger, self.names = scene.ledger, scene.names
        self.start = Moment(START_NS, START_JIFFIES)
        self.seconds = scene.seconds
        self.draining = True

    def counts(self, older_s: float, *, by_process: bool) -> Counts:
        self.draining = False
        now_ns = START_NS + round(self.seconds * SECOND)
        outstanding = self._ledger.tally(now_ns - round(older_s * SECOND), by_process=by_process)
        counts = Counts(now_ns, self._ledger.snapshot(), outstanding, self._ledger.totals(), Loss())
        self.draining = True
        return counts


@pytest.fixture
def session() -> SessionOf:
    scene = Scene()
    scene.allocate(1.0, 0xFFFF888100010000)
    scene.allocate(50.0, 0xFFFF888100020000)
    return SessionOf(scene)


def test_the_ring_is_drained_while_allocations_are_grouped(session, monkeypatch):
    grouping = []

    def group(*arguments):
        grouping.append(session.draining)
        return original(*arguments)

    original = trace.group_tally
    monkeypatch.setattr(trace, "group_tally", group)
    trace._Shown(GroupBy.STACK, 10, 0.0).render(session, 3)
    assert grouping == [True]


@pytest.mark.parametrize(("older", "count"), [(0.0, 2), (5.0, 2), (30.0, 1), (59.5, 0)])
def test_only_those_of_an_age_are_shown(session, monkeypatch, older, count):
    shown = []
    original = trace.group_tally
    monkeypatch.setattr(trace, "group_tally", lambda *arguments: shown.append(original(*arguments)) or shown[-1])
    trace._Shown(GroupBy.STACK, 10, older).render(session, 3)
    assert sum(group.count for group in shown[0]) == count
