# SPDX-License-Identifier: GPL-2.0-or-later
"""Any stream of events, told flush by flush and put together again, makes the recording that it was."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from builders import FULL_COVERAGE, START_JIFFIES, START_NS, Scene, inside, rows
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.capture import ledger_log, recording_log, tables
from kleaktrace.core.capture.recording_log import FLUSH_NS, Flush, RecordingLog, RecordingReader
from kleaktrace.core.capture.tables import PARTS, PARTS_KEPT
from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.loss import Loss, LossWindow
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Kind, hide
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger import ending_memory, outstanding_table
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Kernel
from kleaktrace.views.documents.report import document

STEP_NS = 70_000_000
BASE = 0xFFFF888100000000
ADDRESSES = np.array([hide(BASE + 256 * place) for place in range(24)], np.uint64)


class Run:
    """A session that the test steps through, and its log."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.scene = Scene()
        self.scene.ledger = ledger or self.scene.ledger
        self.history = LevelHistory()
        self.losses: list[LossWindow] = []
        self.steps = 0
        self.log = RecordingLog(self.scene.ledger)
        self.flushes: list[Flush] = []

    @property
    def time_ns(self) -> int:
        return START_NS + self.steps * STEP_NS

    def recording(self) -> Recording:
        end = Moment(self.time_ns, START_JIFFIES + self.steps * STEP_NS * 250 // 1_000_000_000)
        return Recording(
            kernel=Kernel("6.12.0", "x86_64"),
            started=datetime(2026, 1, 1, tzinfo=UTC),
            clock=JiffiesClock(Moment(START_NS, START_JIFFIES), end),
            ledger=self.scene.ledger,
            names=self.scene.names,
            history=self.history,
            loss=Loss(sum(window.events for window in self.losses), windows=tuple(self.losses)),
            coverage=FULL_COVERAGE,
            processors=3,
        )

    def step(self, events: list[tuple[str, int, int]]) -> None:
        """Some events in one batch: (what, object, variant)."""
        self.steps += 1
        allocations, frees = [], []
        for number, (what, place, variant) in enumerate(events):
            kind = Kind.PERCPU if place % 5 == 4 else Kind.KMALLOC if variant % 2 else Kind.CACHE
            row = {
                "sequence": 1000 * self.steps + number,
                "object": hide(BASE + 256 * place),
                "time_ns": self.time_ns - STEP_NS + number,
                "kind": kind,
            }
            if what == "free":
                frees.append({**row, "call_site": inside(("core_free", "kfree")[variant % 2]), "tid": variant})
                continue
            row |= {"stack": 1 + variant % 6, "bytes_req": 50 + variant, "bytes_alloc": 64 << variant % 4}
            row |= {"jiffies": self.steps % 100, "cache": 7 if kind == Kind.CACHE else 0, "cpu": variant % 3}
            row |= {"tid": variant, "tgid": 40 + variant % 2, "comm": (b"sh", b"insmod\0x")[variant % 2]}
            allocations.append(row)
        self.scene.ledger.apply(Batch(rows(ALLOCATION, *allocations), rows(FREE, *frees)))
        if self.history.due(self.time_ns):
            self.history.sample(self.time_ns, self.scene.ledger.snapshot())

    def lose(self, events: int) -> None:
        window = LossWindow(self.time_ns, self.time_ns + 1, events, (1, 0, 0, 2) if events % 2 else None)
        self.losses.append(window)
        self.scene.ledger.note_loss(window)

    def flush(self, with_samples: bool = False, anew: bool = False) -> None:
        self.flushes.append(self.log.flush(self.log.look(self.recording(), with_samples, anew=anew)))

    def end(self) -> Recording:
        recording = self.recording()
        self.flushes.append(self.log.last_flush(self.log.look(recording, with_samples=True)))
        return recording


def read(flushes: list[Flush]) -> Recording:
    reader = RecordingReader()
    for flush in flushes:
        reader.take(flush)
    return reader.recording()


def without_old_parts(flushes: list[Flush]) -> list[Flush]:
    """As they are read when only as many parts are left as are needed."""
    needed = {"rows_part": 1, "endings_part": PARTS_KEPT["endings_part"] - 1}
    oldest = {column: int(flushes[-1].row[column][0]) - count + 1 for column, count in needed.items()}

    def is_left(table: tables.TableLayout, flush: Flush) -> bool:
        column = PARTS.get(table.name)
        return column is None or int(flush.row[column][0]) >= oldest[column]

    return [Flush([(t, batch) for t, batch in flush.batches if is_left(t, flush)], flush.row) for flush in flushes]


def books(recording: Recording) -> dict[str, Any]:
    """What the report tells, and what it goes by besides."""
    ledger = recording.ledger
    keys = ledger.snapshot().stacks.tolist()
    return {
        "report": document(recording.report(recording.judge())),
        "totals": ledger.totals(),
        "statistics": [dataclasses.asdict(one) for one in ledger.stack_statistics(keys)],
        "outstanding": ledger.outstanding().tolist(),
        "samples": [samples.tolist() for samples in ledger.freed_samples(keys)],
        "watched": ledger.watched_frees().tolist(),
        "history": ledger.history(ADDRESSES).tolist(),
        "complete_since": ledger.history_complete_since_ns,
        "losses": ledger.losses,
        "levels": (recording.history.times_ns, repr(recording.history.interval(keys))),
        "processors": recording.processors,
        "loads": {name: recording.names.symbols.loads(name) for name in recording.names.symbols.module_names},
    }


event = st.tuples(st.sampled_from(["allocate", "allocate", "free"]), st.integers(0, 23), st.integers(0, 11))
action = st.one_of(
    st.lists(event, max_size=12),
    st.sampled_from(["flush", "flush with samples", "flush anew", "unload", "watch", "idle"]),
    st.integers(1, 9),
)


@given(st.lists(action, max_size=40))
@pytest.mark.thorough
def test_what_is_read_back_is_what_was_told(actions: list[Any]) -> None:
    run = Run()
    for one in actions:
        match one:
            case list():
                run.step(one)
            case "flush" | "flush with samples" | "flush anew":
                run.flush(with_samples=one == "flush with samples", anew=one == "flush anew")
            case "unload":
                run.scene.unload(run.steps * STEP_NS / 1e9)
                run.scene.names.build_ids["drv"] = f"{run.steps:040x}"
            case "watch":
                run.scene.watch(BASE + 256)
            case "idle":
                run.steps += 40
            case int():
                run.lose(one)
    live = run.end()
    assert books(read(run.flushes)) == books(live)
    assert books(read(without_old_parts(run.flushes))) == books(live)
    assert books(live) == books(live)


@pytest.mark.thorough
def test_parts_of_endings_that_are_forgotten_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    capacity = 40
    monkeypatch.setattr(ledger_log, "HISTORY_CAPACITY", capacity)
    monkeypatch.setattr(ending_memory, "HISTORY_CAPACITY", capacity)
    monkeypatch.setattr(recording_log, "ENDINGS_A_PART", capacity // (PARTS_KEPT["endings_part"] - 2))
    run = Run(Ledger(history_capacity=capacity))
    for step in range(150):
        places = range(step % 7, 24, 5)
        run.steps += 15  # so that they get as old as endings are kept of
        run.step([(what, place, step) for place in places for what in ("free", "allocate")])
        run.flush()
        last = read(without_old_parts(run.flushes)).ledger
        assert last.history(ADDRESSES).tolist() == run.scene.ledger.history(ADDRESSES).tolist()
    assert run.flushes[-1].row["endings_part"][0] > 9
    assert run.scene.ledger.history_complete_since_ns, "nothing was forgotten: the test tells nothing"
    live = run.end()
    assert books(read(without_old_parts(run.flushes))) == books(live)


def test_rows_that_are_renumbered_are_told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outstanding_table, "_WORTH_SWEEPING", 64)
    run = Run()
    many = [("allocate", place, place % 12) for place in range(2000)]
    run.step(many)
    run.flush()
    run.step([("free", place, 1) for place in range(1990)])
    run.step([("allocate", place, 5) for place in range(3000, 3003)])
    run.flush()
    run.step([("free", 3001, 1), ("allocate", 4000, 3)])
    live = run.end()
    assert any(flush.row["anew"][0] for flush in run.flushes[1:]), "nothing was renumbered: the test tells nothing"
    assert books(read(run.flushes)) == books(live)


@pytest.mark.thorough
def test_a_history_that_forgets_samples_is_told_as_it_is() -> None:
    run = Run()
    for step in range(3000):
        run.step([("allocate", step, step)])
        if step % 37 == 0:
            run.flush()
    live = run.end()
    assert len(live.history.times_ns) < 3000 * STEP_NS / 1e9 - 10, "nothing was forgotten: the test tells nothing"
    assert read(run.flushes).history.times_ns == live.history.times_ns
    assert books(read(run.flushes)) == books(live)


def test_what_breaks_off_ends_with_a_loss() -> None:
    run = Run()
    for step in range(60):
        run.step([("allocate", step, 3), ("free", step, 1)])
        if step % 12 == 11:
            run.flush()
    broken = read(run.flushes)
    (window,) = broken.loss.windows
    assert (window.from_ns, window.to_ns) == (run.time_ns, run.time_ns + FLUSH_NS)
    assert window.events == round(2e9 / STEP_NS), "as many as the second before had"
    assert broken.clock.end.time_ns == window.to_ns
    report = document(broken.report(broken.judge()))
    assert report["verdict"] == "incomplete"
    assert report["loss"]["windows"] == [[4.2, 5.2]]
    assert any("breaks off after 4.2 s" in gap for gap in report["gaps"])


def test_what_breaks_off_has_lost_as_much_as_was_ever_kept_late() -> None:
    run = Run()
    for pause in (1, 50, 2):
        run.steps += pause
        run.step([("allocate", pause, 3)])
        run.flush()
    broken = read(run.flushes)
    (window,) = broken.loss.windows
    assert (window.from_ns, window.to_ns) == (run.time_ns, run.time_ns + 51 * STEP_NS)
    assert any("up to 3.6 s may not be kept" in gap for gap in broken.report(broken.judge()).gaps)


def test_nothing_at_all_is_no_recording() -> None:
    with pytest.raises(ValueError, match="before anything was kept"):
        RecordingReader().recording()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        (tables.COUNTERS, "stack", 99),
        (tables.CELL_COUNTS, "cell", 9999),
        (tables.CELLS, "stack", 99),
        (tables.OUTSTANDING, "stack", 99),
        (tables.OUTSTANDING, "origin", 99),
        (tables.OUTSTANDING, "task", 99),
        (tables.STACK_FRAMES, "frame", 99),
        (tables.SITES, "frame", 99),
        (tables.SAMPLES, "stack", 99),
        (tables.SAMPLES, "place", 99),
        (tables.STACKS, "depth", 1 << 30),
        (tables.LEVELS, "stacks", 99),
        (tables.LEVELS, "changed", 99),
        (tables.LEVEL_CHANGES, "stack", 99),
    ],
)
def test_what_names_what_was_not_told_is_refused(table: tables.TableLayout, column: str, value: int) -> None:
    run = Run()
    run.step([("allocate", place, place) for place in range(6)])
    run.step([("free", 1, 1)])
    run.end()

    def changed(other: tables.TableLayout, batch: tables.Columns) -> tables.Columns:
        return {**batch, column: np.full_like(batch[column], value)} if other == table else batch

    spoiled = [Flush([(t, changed(t, batch)) for t, batch in flush.batches], flush.row) for flush in run.flushes]
    assert any(t == table for flush in spoiled for t, _ in flush.batches)
    with pytest.raises(ValueError, match=r"not told|are told|tells|than are|not whole"):
        read(spoiled)
