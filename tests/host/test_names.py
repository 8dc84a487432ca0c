# SPDX-License-Identifier: GPL-2.0-or-later
"""A name that found no room is told when it is due again, and lost only if that never comes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from host_tools import TIMEOUT_S, Holder

from kleaktrace.edge.tracing import tracer as module
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer

pytestmark = pytest.mark.host


def test_what_is_told_later_was_not_lost(holder: Callable[[str], Holder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAME_RING", 4096)  # room for three stacks
    process = holder("kt-names")
    with Tracer(Filters(pid=process.pid)) as tracer:
        process.tell("open 1")
        process.tell("eventfd 1")
        time.sleep(0.1)
        seen = set(tracer.poll().allocations["stack"].tolist())
        assert len(seen) > 3
        assert tracer.check_loss().names >= len([key for key in seen if key not in tracer.names.stacks]) > 0
        deadline = time.monotonic() + TIMEOUT_S
        while tracer.check_loss().names:
            assert time.monotonic() < deadline, tracer.check_loss()
            process.tell("open 1")
            process.tell("eventfd 1")
            seen.update(tracer.poll().allocations["stack"].tolist())
        assert all(tracer.names.stacks.get(key).frames for key in seen)
        assert tracer.check_loss().events == 0
