"""The table of `trace` and the drain: what takes long must not hold up what must not wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from builders import SECOND, START_NS, Scene

from kleaktrace.commands import trace
from kleaktrace.core.events.coverage import Loss
from kleaktrace.core.grouping.outstanding_groups import By


class SessionOf:
    """As much of a `Session` as a table needs."""

    def __init__(self, scene: Scene) -> None:
        self.ledger, self.tracer, self.loss = scene.ledger, scene, Loss()
        self.now_ns = START_NS + round(scene.seconds * SECOND)
        self.seconds = scene.seconds
        self.draining = True

    def clock(self):
        return type("Clock", (), {"start": type("Moment", (), {"time_ns": START_NS})})

    def catch_up(self) -> None:
        assert self.draining

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.draining = False
        yield
        self.draining = True


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
    trace._Shown(By.STACK, 10, 0.0).render(session, 3)
    assert grouping == [True]


@pytest.mark.parametrize(("older", "count"), [(0.0, 2), (5.0, 2), (30.0, 1), (59.5, 0)])
def test_only_those_of_an_age_are_shown(session, monkeypatch, older, count):
    shown = []
    original = trace.group_tally
    monkeypatch.setattr(trace, "group_tally", lambda *arguments: shown.append(original(*arguments)) or shown[-1])
    trace._Shown(By.STACK, 10, older).render(session, 3)
    assert sum(group.count for group in shown[0]) == count
