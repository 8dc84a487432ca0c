# SPDX-License-Identifier: GPL-2.0-or-later
"""A session that is played again comes to the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import inside, module_image
from made_up_source import MadeUpSource

from kleaktrace.core.events.loss import Loss, LossWindow
from kleaktrace.core.recording import Recording
from kleaktrace.edge.capture.capture_writer import CaptureWriter
from kleaktrace.edge.capture.event_queue import EventQueue
from kleaktrace.errors import UsageError
from kleaktrace.session import replay as replay_module
from kleaktrace.session.replay import ReplaySource, replay
from kleaktrace.session.session import Session
from kleaktrace.views.documents.report import document

A = 0xFFFF888100010000


@contextmanager
def recorded(path: Path, events: bool = True) -> Iterator[tuple[MadeUpSource, list[Recording]]]:
    """Whatever is done to the source inside is recorded; what it came to is there after it."""
    source, came_to = MadeUpSource(), []
    source.names.symbols.module_loaded(module_image(loaded_ns=source.started.time_ns))
    source.names.stacks.add(1, [inside("__kmalloc_noprof"), inside("drv_probe"), inside("do_one_initcall")])
    queue = EventQueue() if events else None
    with Session(source, queue) as session, CaptureWriter(path, session.looking, queue) as writer:
        yield source, came_to
        session.stop()
        came_to.append(session.recording())
        writer.finish(came_to[0])


def played(source: ReplaySource) -> Recording:
    with Session(source) as session:
        while not source.over:
            session.catch_up()
        session.stop()
        return session.recording()


def some_events(source: MadeUpSource) -> None:
    for number in range(300):
        source.allocate(A + 256 * (number % 40), size=60 + number % 7, cpu=number % 2, comm=b"insmod")
        if number % 3:
            source.free(A + 256 * (number % 40), call_site=inside("core_free"), tid=number)


@pytest.mark.parametrize("speed", [1.0, 1000.0])
@pytest.mark.thorough
def test_it_comes_to_the_same(tmp_path: Path, speed: float) -> None:
    with recorded(tmp_path / "capture") as (source, came_to):
        some_events(source)
        source.loss = Loss(3, windows=(LossWindow(source.started.time_ns, source.started.time_ns + 9, 3),))
    live, again = came_to[0], played(replay(tmp_path / "capture", speed))
    told = document(again.report(again.judge()))
    assert told | {"window": None} == document(live.report(live.judge())) | {"window": None}
    assert told["window"]["seconds"] == round(live.seconds, 3)
    keys = live.ledger.snapshot().stacks.tolist()
    samples = [[each.tolist() for each in one.ledger.freed_samples(keys)] for one in (again, live)]
    assert samples[0] == samples[1], "and even what was chosen by batches"
    assert again.ledger.outstanding().tolist() == live.ledger.outstanding().tolist()


def test_nothing_happens_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(tmp_path / "capture") as (source, _):
        some_events(source)
    real_ns = 0
    monkeypatch.setattr(replay_module.time, "monotonic_ns", lambda: real_ns)
    source = replay(tmp_path / "capture", 0.5)
    seen = 0
    while not source.over:
        real_ns += 1_000_000
        while source.reported > source.polled:
            batch = source.poll()
            assert 0 < batch.newest_ns <= source.now_ns()
            seen += batch.size
    assert real_ns / 1e9 == pytest.approx(source.lasts_s, abs=0.002)
    while source.backlog:
        seen += source.poll().size
    assert seen == 500


def test_a_capture_without_events_can_not_be_played(tmp_path: Path) -> None:
    with recorded(tmp_path / "capture", events=False) as (source, _):
        some_events(source)
    with pytest.raises(UsageError, match="has not kept every event"):
        replay(tmp_path / "capture", 1)


def test_a_capture_in_which_nothing_happened_is_played(tmp_path: Path) -> None:
    with recorded(tmp_path / "capture"):
        pass
    assert played(replay(tmp_path / "capture", 10)).ledger.totals().allocations == 0
