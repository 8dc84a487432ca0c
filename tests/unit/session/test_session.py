# SPDX-License-Identifier: GPL-2.0-or-later
"""A session on a source that the test makes up: what was reported is in the ledger, whatever happens."""

from __future__ import annotations

import threading
import time
from mmap import PAGESIZE

import pytest
from builders import inside, module_image
from made_up_source import MadeUpSource

from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.loss import Loss, LossWindow
from kleaktrace.core.events.records import Batch, Kind, hide
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.report import Outcome
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.errors import ExitCode, InternalFault
from kleaktrace.session.session import Session
from kleaktrace.session.source import EventSource

A, B = 0xFFFF888100010000, 0xFFFF888100020000


def test_the_made_up_source_is_a_source(source: MadeUpSource) -> None:
    def takes(_: EventSource) -> None:
        pass

    takes(source)


def test_counts_hold_what_was_reported_by_then_and_do_not_change(source: MadeUpSource, session: Session) -> None:
    source.allocate(A)
    before = session.counts()
    source.allocate(B)
    source.free(A)
    after = session.counts()
    assert (before.totals.allocations, before.totals.frees) == (1, 0)
    assert (after.totals.allocations, after.totals.frees) == (2, 1)
    assert before.outstanding.counts.tolist() == after.outstanding.counts.tolist() == [1]


@pytest.mark.parametrize(("guard_pages", "bytes_of_range"), [(False, 3 * PAGESIZE), (True, 2 * PAGESIZE)])
def test_a_vmallocs_range_has_a_guard_page_which_may_be_counted_already(
    source: MadeUpSource, session: Session, guard_pages: bool, bytes_of_range: int
) -> None:
    source.coverage = (Coverage(CoverageKind.VMALLOC, "some probe", guard_pages=guard_pages),)
    source.allocate(A, kind=Kind.VMALLOC, bytes_alloc=2 * PAGESIZE)
    source.allocate(B)
    assert session.outstanding_vmallocs() == {hide(A): bytes_of_range}


def test_only_what_is_old_enough_is_counted_as_outstanding(source: MadeUpSource, session: Session) -> None:
    source.allocate(A)
    assert session.counts(older_s=60).outstanding.counts.sum() == 0


def test_nothing_is_drained_while_somebody_looks(source: MadeUpSource, session: Session) -> None:
    with session.looking() as recording:
        source.allocate(A)
        other = threading.Thread(target=session.catch_up)
        other.start()
        other.join(0.1)
        assert other.is_alive()
        assert recording.ledger.totals().allocations == 0
    other.join(10)
    assert session.counts().totals.allocations == 1


def test_what_is_reported_before_the_stop_counts_and_the_source_is_closed_at_the_end(source: MadeUpSource) -> None:
    with Session(source) as session:
        source.allocate(A)
        session.stop()
        session.stop()
        assert (source.paused, source.closed) == (1, 0), "what objects hold can still be read"
        assert session.recording().ledger.totals().outstanding == 1
        assert session.recording().processors == source.processors
        seconds = session.seconds
    assert source.closed == 1
    assert session.seconds == seconds
    report = session.recording().report()
    assert (report.totals.outstanding, report.kernel) == (1, source.kernel)


def test_losses_reach_ledger_and_report(source: MadeUpSource, session: Session) -> None:
    source.allocate(A)
    window = LossWindow(source.started.time_ns, source.moment().time_ns, 3)
    source.loss = Loss(3, windows=(window,))
    session.stop()
    report = session.recording().report()
    assert report.gaps == ["3 events were lost"]
    assert report.outcome is Outcome.INCOMPLETE


def test_a_drain_that_fails_is_no_quiet_kernel(source: MadeUpSource) -> None:
    session = Session(source)
    source.fail = ZeroDivisionError("made up")
    session._drain._thread.join(10)
    source.allocate(A)
    for look in (session.counts, session.outstanding, session.looking().__enter__, session.stop):
        with pytest.raises(InternalFault, match="made up") as raised:
            look()
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        assert raised.value.exit_code is ExitCode.BUG
    session.__exit__(None, None, None)
    assert source.closed == 1


def test_frees_of_watched_objects_are_remembered(source: MadeUpSource, session: Session) -> None:
    session.watch([hide(A)], percpu=False)
    source.free(A)
    source.free(B)
    session.stop()
    assert session.recording().ledger.watched_frees()["object"].tolist() == [hide(A)]


def test_an_observer_sees_every_batch(source: MadeUpSource) -> None:
    class Seen:
        def __init__(self) -> None:
            self.events = 0
            self.names: KernelNames | None = None

        def begin(self, names: KernelNames) -> None:
            self.names = names

        def batch(self, batch: Batch) -> None:
            self.events += batch.size

        def sample(self, time_ns: int, ledger: Ledger) -> None:
            pass

    seen = Seen()
    with Session(source, seen) as session:
        source.allocate(A)
        source.free(A)
        session.stop()
    assert seen.events == 2
    assert seen.names is source.names


def test_an_unload_that_has_just_arrived_counts_for_what_it_left(source: MadeUpSource, session: Session) -> None:
    image = module_image(loaded_ns=source.started.time_ns)
    source.names.symbols.module_loaded(image)
    source.names.stacks.add(1, [inside("__kmalloc_noprof"), inside("drv_probe")])
    source.allocate(A)
    assert session.left_behind() == 0

    def unload() -> None:
        source.before_poll = lambda: None
        source.names.symbols.module_freed("drv", image.key, time.monotonic_ns())

    source.before_poll = unload
    source.allocate(B, stack=2)  # it arrives behind the unload
    assert session.left_behind() == 1


def test_what_is_left_of_a_window_goes_by_when_it_was_allocated(source: MadeUpSource, session: Session) -> None:
    source.allocate(A)
    source.allocate(B)
    source.free(B)
    end_ns = source.moment().time_ns
    source.allocate(B)
    assert session.left_of(end_ns) == 1
    source.free(A)
    assert session.left_of(end_ns) == 0
