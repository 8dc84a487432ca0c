"""A ring that fills ends the drain's rest, and nothing else does."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from host_tools import Holder, load_on_all_cores

from kleaktrace.edge import session as session_module
from kleaktrace.edge.filters import Filters
from kleaktrace.edge.session import Session
from kleaktrace.edge.tracer import Tracer

pytestmark = pytest.mark.host


def test_a_ring_that_fills_ends_a_rest(holder: Callable[[str], Holder]) -> None:
    process = holder("kt-fill")
    with Tracer(Filters(comm="kt-fill", cache="filp"), event_ring=1 << 19) as tracer:
        begun = time.monotonic()
        process.tell("open 500")  # an eighth of it
        tracer.wait(0.3)
        assert time.monotonic() - begun >= 0.3
        assert tracer.reported >= 500 * 128
        resting = threading.Thread(target=tracer.wait, args=(600,), daemon=True)
        resting.start()
        process.tell("open 3500")
        resting.join(60)
        assert not resting.is_alive()
        assert tracer.check_loss().events == 0


def test_a_sudden_storm_after_a_calm_is_not_lost(load: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fills this ring in a quarter of the time that the drain has been resting by then."""
    monkeypatch.setattr(session_module, "Tracer", functools.partial(Tracer, event_ring=16 << 20))
    with Session(Filters(comm="kt-churn", cache="filp")) as session:
        time.sleep(1.5)
        with load_on_all_cores(load, "kt-churn", "churn", 2) as churning:
            for process in churning:
                process.wait()
        session.stop()
        print(session.ledger.totals())
        assert session.tracer.polled > 4 * (16 << 20)
        assert session.loss.events == 0
