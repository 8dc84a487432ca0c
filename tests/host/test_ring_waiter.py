# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends the drain's rest: a ring that fills, a stack that has cost enough to be learned, and nothing else."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host_tools import Holder, load_on_all_cores

from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.session import Session

pytestmark = pytest.mark.host

RING = 32 << 20


@contextlib.contextmanager
def rest_that_must_end(tracer: Tracer) -> Iterator[None]:
    """A rest that only what happens meanwhile can end."""
    resting = threading.Thread(target=tracer.wait, args=(600,), daemon=True)
    resting.start()
    yield
    resting.join(60)
    assert not resting.is_alive()


def test_a_ring_that_fills_ends_a_rest(holder: Callable[[str], Holder]) -> None:
    process = holder("kt-fill")
    with Tracer(Filters(comm="kt-fill", cache="filp"), event_ring=1 << 19, exact_stacks=True) as tracer:
        begun = time.monotonic()
        process.tell("open 500")  # an eighth of it
        tracer.wait(0.3)
        assert time.monotonic() - begun >= 0.3
        assert tracer.reported >= 500 * 128
        with rest_that_must_end(tracer):
            process.tell("open 3500")
        assert tracer.check_loss().events == 0


def test_a_stack_that_is_unwound_again_and_again_ends_a_rest(holder: Callable[[str], Holder]) -> None:
    process = holder("kt-learn")
    with Tracer(Filters(comm="kt-learn", cache="filp"), event_ring=64 << 20) as tracer:
        begun = time.monotonic()
        process.tell("open 400")
        tracer.wait(0.3)
        assert time.monotonic() - begun >= 0.3
        with rest_that_must_end(tracer):
            process.tell("open 400")
        tracer.poll()
        tracer.check_loss()
        unwound = tracer.stack_check.unwound
        assert unwound == 800
        process.tell("open 3200")
        tracer.check_loss()
        assert tracer.stack_check.unwound - unwound < 320


def test_a_sudden_storm_after_a_calm_is_not_lost(load: Path) -> None:
    """It fills this ring in half of the time that the drain has been resting by then."""
    tracer = Tracer(Filters(comm="kt-churn", cache="filp"), event_ring=RING)
    with Session(tracer) as session:
        time.sleep(1.5)
        with load_on_all_cores(load, "kt-churn", "churn", 600) as churning:
            while tracer.polled < 2 * RING:
                assert all(process.poll() is None for process in churning), "a machine too slow for a storm"
                time.sleep(0.02)
        session.stop()
        print(session.counts().totals)
        assert session.loss.events == 0
