# SPDX-License-Identifier: GPL-2.0-or-later
"""Recognised stacks are the true ones: the running kernel's, checked against its unwinder."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from host_tools import load_on_all_cores

from kleaktrace.core.events.records import Kind
from kleaktrace.edge.tracing.tracer import Tracer

pytestmark = pytest.mark.host

NOTHING: frozenset[str] = frozenset()


def traced(
    load: Path, kind: str, seconds: float, exact: bool, left_out: frozenset[str] = NOTHING
) -> tuple[Tracer, Counter[tuple[str, ...]], int]:
    """Trace a load; the stacks of its slab objects with how often they came, and all allocations there were."""
    stacks: Counter[tuple[str, ...]] = Counter()
    allocations = 0
    with (
        Tracer(exact_stacks=exact, left_out=left_out) as tracer,
        load_on_all_cores(load, "kt-paths", kind, seconds) as processes,
    ):
        ending = False
        while not ending:
            ending = all(process.poll() is not None for process in processes)
            end = tracer.reported
            while tracer.polled < end:
                batch = tracer.poll()
                allocations += len(batch.allocations)
                ours = batch.allocations[batch.allocations["comm"] == b"kt-paths"]
                for key, kind_of in zip(ours["stack"].tolist(), ours["kind"].tolist(), strict=True):
                    if kind_of == Kind.CACHE:
                        stacks[tuple(tracer.names.stacks.get(key).lines())] += 1
            time.sleep(0.02)
        tracer.check_loss()
    return tracer, stacks, allocations


# Sockets deliver in a softirq, on a stack of its own: what it came upon is not to be recognised.
@pytest.mark.parametrize(
    ("kind", "most", "left_out"),
    [("churn", 0.3, NOTHING), ("sockets", 0.8, NOTHING), ("churn", 0.3, frozenset({"bpf_rdonly_cast"}))],
)
def test_most_stacks_are_recognised_and_rightly(load: Path, kind: str, most: float, left_out: frozenset[str]) -> None:
    tracer, stacks, allocations = traced(load, kind, 4, exact=False, left_out=left_out)
    assert not (left_out and tracer.has_plain_loads)
    check = tracer.stack_check
    print(f"{check} of {allocations} allocations")
    assert check.unwound < most * allocations
    assert check.checked > 100
    assert check.wrong <= 0.001 * check.checked
    often = {stack for stack, count in stacks.items() if count > 1000}
    assert often
    exact, unwound, all_unwound = traced(load, kind, 2, exact=True)
    assert exact.stack_check.checked == 0
    assert exact.stack_check.unwound >= all_unwound
    assert often <= set(unwound)
