# SPDX-License-Identifier: GPL-2.0-or-later
"""Every event at full rate, exactly once; and when one can't be kept, that is said."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from host_tools import Holder, check_books, kleaktrace, load_on_all_cores, read_json

from kleaktrace.core.events.records import Batch, Kind
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.report import Outcome
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.edge.bpf.bpf_object import BpfObject
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.live import live_session
from kleaktrace.session.session import Session

pytestmark = pytest.mark.host


class Counted:
    """What came by in the drain's own thread, which has the priority that it needs."""

    def __init__(self) -> None:
        self.events = 0
        self._of_caches: Counter[int] = Counter()

    def begin(self, names: KernelNames) -> None:
        """Keys are enough."""

    def batch(self, batch: Batch) -> None:
        self.events += batch.size
        ours = batch.allocations[batch.allocations["comm"] == b"kt-churn"]
        keys, counts = np.unique(ours["cache"][ours["kind"] == Kind.CACHE], return_counts=True)
        self._of_caches.update(dict(zip(keys.tolist(), counts.tolist(), strict=True)))

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        pass

    def files(self, names: KernelNames) -> int:
        return sum(count for key, count in self._of_caches.items() if key in files(names))


def files(names: KernelNames) -> set[int]:
    return {key for key, cache in names.caches.items() if cache.name == "filp"}


def test_every_event_once_at_full_rate(load: Path) -> None:
    """Sockets make interrupts allocate on top of tasks that are just being traced: see RECORD_ONCE in bpf/slab.c."""
    seconds, counted = 8.0, Counted()
    with (
        live_session(observer=counted) as session,
        load_on_all_cores(load, "kt-sockets", "sockets", seconds),
        load_on_all_cores(load, "kt-churn", "churn", seconds) as churning,
    ):
        opened = sum(int(_output(process)) for process in churning)
        session.stop()
        held, loss, names = session.outstanding(), session.loss, session.names
        totals = session.counts().totals
    print(f"{counted.events / seconds:,.0f} events/s, {opened:,} files opened")
    assert (loss.events, loss.stacks, loss.names) == (0, 0, 0)
    assert counted.files(names) == opened
    assert opened > 10_000
    assert not np.isin(held["cache"][held["comm"] == b"kt-churn"], list(files(names))).any()
    assert totals.allocations == totals.frees + totals.implied_frees + totals.outstanding
    assert totals.allocations + totals.double_events + totals.frees + totals.unknown_frees == counted.events


def test_command_keeps_up(load: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    begun = kleaktrace(tmp_path, "trace", "--comm", "nobody", "--duration", 0.1)
    with load_on_all_cores(load, "kt-churn", "churn", 600):
        done = kleaktrace(tmp_path, "trace", "--duration", 8, "--json", file)
    assert done.status == 0, done.stderr
    document = read_json(file)
    check_books(document)
    seconds, totals = document["window"]["seconds"], document["totals"]
    events = totals["allocations"] + totals["frees"]
    print(
        f"{events / seconds:,.0f} events/s; front end: {(done.cpu_s - begun.cpu_s) / seconds:.1%} of one core, "
        f"and {begun.cpu_s:.1f} s to start"
    )
    assert events > 10_000


def test_loss_is_counted_and_dated(load: Path) -> None:
    """A reader that stands still, and a ring of a few milliseconds."""
    process = Holder(load, "kt-stall")
    with Session(Tracer(Filters(comm="kt-stall", cache="filp"), event_ring=1 << 16)) as session:
        process.tell("open 10")
        session.catch_up()
        assert session.loss.events == 0
        with session.looking():
            stalled_ns = time.monotonic_ns()
            process.tell("open 4000")
            resumed_ns = time.monotonic_ns()
        counts = session.counts()
        loss, held = counts.loss, counts.totals.outstanding
        assert held >= 10
        assert loss.events == 4010 - held
        while held:  # in portions that the ring holds
            process.tell("close 200")
            held = session.counts().totals.outstanding
        session.stop()
        report = session.recording().report()
    process.close()
    windows = report.loss.windows
    assert sum(window.events for window in windows) == report.loss.events == loss.events
    assert windows[0].from_ns <= stalled_ns
    assert windows[-1].to_ns >= resumed_ns
    assert report.outcome is Outcome.INCOMPLETE
    assert any("lost" in gap for gap in report.gaps)
    totals = report.totals
    assert totals.allocations == totals.frees
    assert totals.unknown_frees == 0, "nor is a free sent whose allocation was lost"


def _output(process: subprocess.Popen[str]) -> str:
    assert process.wait() == os.EX_OK
    assert process.stdout is not None
    return process.stdout.read()


def test_starting_under_load_loses_nothing(load: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the programs of an event are attached, the first is skipped already, and the second not there yet."""
    attach = BpfObject._attach_raw

    def attach_slowly(bpf: BpfObject, event: str, function: str) -> int:
        if function == "second_kmem_cache_free":
            time.sleep(1.5)
        return attach(bpf, event, function)

    monkeypatch.setattr(BpfObject, "_attach_raw", attach_slowly)
    with (
        load_on_all_cores(load, "kt-sockets", "sockets", 600),
        load_on_all_cores(load, "kt-churn", "churn", 600),
        live_session() as session,
    ):
        session.stop()
    assert session.loss.events == 0
