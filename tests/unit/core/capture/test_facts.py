# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts of captures: those that this program writes, and those that older ones wrote."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from builders import Scene
from recordings import scene_recording

from kleaktrace.core.capture.facts import KnownFacts, at_the_start
from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.machine.unexplained_memory import MissingMemory


def test_whether_guard_pages_are_counted_is_told() -> None:
    told = (
        Coverage(CoverageKind.VMALLOC, "by addresses", "larger", guard_pages=True),
        Coverage(CoverageKind.PERCPU, None, "not seen"),
    )
    facts = json.loads(json.dumps(at_the_start(replace(scene_recording(Scene()), coverage=told))))
    assert KnownFacts(facts).coverage() == told


@pytest.mark.parametrize(
    ("kind", "source", "guard_pages"),
    [
        ("vmalloc", "raw_tracepoint:alloc_vmap_area", True),
        ("vmalloc", "fexit:__vmalloc_node_range", False),
        ("vmalloc", None, False),
        ("vfree", "raw_tracepoint:free_vmap_area_noflush", False),
    ],
)
def test_older_captures_tell_by_the_source_whether_guard_pages_are_counted(
    kind: str, source: str | None, guard_pages: bool
) -> None:
    (read,) = KnownFacts({"coverage": [[kind, source, "a note"]]}).coverage()
    assert (read.source, read.note, read.guard_pages) == (source, "a note", guard_pages)


def test_memory_that_is_gone_is_one_of_those_that_are_known() -> None:
    (slab,) = KnownFacts({"missing": [["slab", 4096, "more", [["mm/a.c:1 f", 4096]]]]}).missing()
    assert slab.name is MissingMemory.SLAB
    with pytest.raises(ValueError, match="slob"):
        KnownFacts({"missing": [["slob", 4096, "more", []]]}).missing()


def test_what_is_no_coverage_is_refused() -> None:
    with pytest.raises(ValueError, match="not what it should be"):
        KnownFacts({"coverage": [["vmalloc", "a source", "", 1]]}).coverage()
