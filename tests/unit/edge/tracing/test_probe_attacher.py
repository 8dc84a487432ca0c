# SPDX-License-Identifier: GPL-2.0-or-later
"""Attaching with fallbacks, and what the log says of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.edge.bpf.bpf_object import AttachRefused, BpfObject, Hook
from kleaktrace.edge.tracing.probe_attacher import ProbeAttacher
from kleaktrace.edge.tracing.probe_plan import EventKind, Probe, ProbeSet
from kleaktrace.errors import EnvironmentRefusal


class MadeUpObject(BpfObject):
    """Takes all programs but those that it refuses."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.taken: list[str] = []
        self.loaded: list[str] = []
        self.words: list[tuple[object, ...]] = []  # type: ignore[assignment]

    @property
    def attached(self) -> int:
        return len(self.taken)

    def load_ahead(self, hooks: Iterable[Hook]) -> None:
        self.loaded = [hook.function for hook in hooks]

    def detach_to(self, count: int) -> None:
        del self.taken[count:]

    def attach_raw_tracepoint(self, event: str, *functions: str) -> None:
        if event in self.refused:
            raise AttachRefused(f"raw tracepoint {event}: no such thing")
        self.taken.append(event)

    def set_words(self, name: str, index: int, *words: int) -> None:
        self.words.append((name, index, *words))


def probe(name: str) -> Probe:
    return Probe("raw_tracepoint", name, lambda bpf: bpf.attach_raw_tracepoint(name), (Hook.raw_tracepoint(name),))


def kind(*sources: tuple[str, ...], required: bool = False) -> EventKind:
    sets = tuple(ProbeSet(tuple(map(probe, names)), f"note on {names[0]}") for names in sources)
    return EventKind(CoverageKind.VMALLOC, sets, "vmallocs are not seen", required)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "kleaktrace")
    return caplog


def test_the_best_source_is_taken_that_the_kernel_takes_as_a_whole(log: pytest.LogCaptureFixture) -> None:
    bpf = MadeUpObject("second")
    attacher = ProbeAttacher(bpf)
    coverage = attacher.attach_all([kind(("first", "second"), ("third",), ("fourth",))])
    assert coverage == (Coverage(CoverageKind.VMALLOC, "raw_tracepoint:third", "note on third"),)
    assert (bpf.taken, bpf.loaded) == (["third"], ["first", "second"])
    refused = "raw_tracepoint:first+raw_tracepoint:second: raw tracepoint second: no such thing"
    assert attacher.refusals == {"vmalloc": [refused]}
    assert "vmalloc: raw_tracepoint:first+raw_tracepoint:second was refused: raw tracepoint second" in log.text
    assert "vmalloc: by raw_tracepoint:third" in log.text


def test_the_plan_and_what_each_step_took_are_in_the_log(log: pytest.LogCaptureFixture) -> None:
    ProbeAttacher(MadeUpObject()).attach_all([kind(("first", "second"), ("third",)), kind()])
    said = [record.getMessage() for record in log.records]
    assert said[0] == "plan: vmalloc: raw_tracepoint:first+raw_tracepoint:second, else raw_tracepoint:third"
    assert said[1] == "plan: vmalloc: nothing on this kernel"
    assert said[2].startswith("the kernel verified 2 programs in 0.")
    assert said[-1].startswith("attached in 0.")


def test_what_nothing_covers_is_in_the_log_and_fatal_if_it_is_required(log: pytest.LogCaptureFixture) -> None:
    (missed,) = ProbeAttacher(MadeUpObject("first")).attach_all([kind(("first",))])
    assert missed == Coverage(CoverageKind.VMALLOC, None, "vmallocs are not seen")
    assert "vmalloc: no source: vmallocs are not seen" in log.text
    with pytest.raises(EnvironmentRefusal, match="no source for vmalloc: raw_tracepoint:first: raw tracepoint first"):
        ProbeAttacher(MadeUpObject("first")).attach_all([kind(("first",), required=True)])


def test_ways_that_are_left_out_are_not_tried() -> None:
    bpf = MadeUpObject()
    (missed,) = ProbeAttacher(bpf, frozenset({"raw_tracepoint"})).attach_all([kind(("first",))])
    assert (missed.source, bpf.taken, bpf.loaded) == (None, [], [])


def test_tasks_are_watched_by_all_events_or_none(log: pytest.LogCaptureFixture) -> None:
    bpf = MadeUpObject()
    ProbeAttacher(bpf).watch_tasks()
    assert (len(bpf.taken), len(bpf.words)) == (3, 1)
    bpf = MadeUpObject("cgroup_transfer_tasks")
    ProbeAttacher(bpf).watch_tasks()
    assert (bpf.taken, bpf.words) == ([], [])
    assert "who allocated last is not remembered: raw tracepoint cgroup_transfer_tasks: no such thing" in log.text


def test_that_no_programs_of_processes_are_told_is_in_the_log(log: pytest.LogCaptureFixture) -> None:
    ProbeAttacher(MadeUpObject("sched_process_exec")).watch_programs()
    assert "what processes run is not told: raw tracepoint sched_process_exec: no such thing" in log.text
