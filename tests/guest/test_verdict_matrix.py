# SPDX-License-Identifier: GPL-2.0-or-later
"""Every case of the lab in a booted kernel: no verdict is wrong, every kind of leak is found. `tools/lab` prints it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from guest_tool import PROJECT, build_module, built_tree
from requesters import ALLOCATOR, headed_by_allocators
from schemas import validated
from verdict_matrix import Phase, run, show

from kleaktrace.commands.report import report
from kleaktrace.edge.capture.capture_reader import read_capture

pytestmark = pytest.mark.guest

LAB = PROJECT / "tests" / "lab"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guest leaves what it has seen."""
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture(scope="module")
def phases(directory: Path) -> dict[str, Phase]:
    found = run(directory)
    show(found)
    return {phase.name: phase for phase in found}


@pytest.fixture(scope="module")
def documents(phases: dict[str, Phase], directory: Path) -> dict[str, dict[str, Any]]:
    """What the guest has reported."""
    return {name: validated(json.loads((directory / f"{name}.json").read_text())) for name in phases}


@pytest.fixture(scope="module")
def reported_here(phases: dict[str, Phase], directory: Path) -> dict[str, dict[str, Any]]:
    """What is reported of the guest's captures outside of it."""
    built = build_module(LAB, built_tree())
    found = {}
    for name in phases:
        arguments = ["--json", "-", "--debug-dir", str(built), str(directory / f"{name}.capture")]
        done = CliRunner().invoke(report, arguments)
        assert done.stdout, done.exception
        found[name] = validated(json.loads(done.stdout))
    return found


@pytest.mark.parametrize("name", ["loaded", "unloaded"])
def test_no_verdict_is_wrong(phases: dict[str, Phase], name: str) -> None:
    phase = phases[name]
    assert phase.lost == 0
    assert phase.outcome == "leaks"
    assert phase.wrong == []
    assert phase.undecided <= 0.02


# While the module is loaded, kmemleak does not list one on pages that were a slab's a moment ago: what the slab left in
# their description points to it (kleaktrace/edge/kmemleak/freelist_scrub.py clears that away before, not meanwhile).
# That may be so for all four of a kind, and seldom is.
ON_PAGES = {"leak_large_kmalloc", "leak_large_kmalloc_twice"}


def test_every_kind_of_leak_is_found_and_named(phases: dict[str, Phase]) -> None:
    loaded = phases["loaded"]
    assert loaded.kinds == 34
    assert set(loaded.missed) <= ON_PAGES
    for (case, _), row in loaded.rows.items():
        assert case not in loaded.missed or not row.listed, "what kmemleak lists is found"
    assert phases["unloaded"].kinds == 36
    assert phases["unloaded"].missed == []


def test_stacks_are_those_that_kmemleak_took(phases: dict[str, Phase]) -> None:
    assert phases["loaded"].compared > 100
    assert phases["loaded"].unlike == []


@pytest.mark.parametrize("name", ["loaded", "unloaded"])
def test_captures_give_the_same_report_elsewhere(
    documents: dict[str, dict[str, Any]], reported_here: dict[str, dict[str, Any]], name: str
) -> None:
    """But for source lines, which are found where there is debug information."""
    assert without_sources(reported_here[name]) == without_sources(documents[name])


@pytest.mark.parametrize("name", ["loaded", "unloaded"])
def test_source_lines_are_those_of_the_lab_s_functions(reported_here: dict[str, dict[str, Any]], name: str) -> None:
    told = reported_here[name]
    assert told["source_lines_missing"] == []
    seen = set()
    for suspect in told["suspects"]:
        if suspect["verdict"] != "confirmed":
            continue
        for frame, (*_, last) in zip(suspect["stack"], suspect["source_lines"], strict=True):
            if "[kleaktrace_lab]" in frame:
                function = frame.partition("+")[0]
                file = LAB / Path(last["file"]).name
                assert last["function"] == function
                assert last["line"] in body(file, function), (frame, last)
                seen.add(function)
            elif frame.startswith("do_one_initcall+"):
                assert (last["file"], last["function"]) == ("init/main.c", "do_one_initcall")
    assert len(seen) > 20


@pytest.mark.parametrize("name", ["loaded", "unloaded"])
def test_no_stack_is_headed_by_a_function_that_only_allocates(
    phases: dict[str, Phase], directory: Path, name: str
) -> None:
    assert phases[name].kinds
    assert headed_by_allocators(read_capture(directory / f"{name}.capture")) == []
    # Among the suspects are those of kmemleak's whose module has gone, and its names with it.
    suspects = json.loads((directory / f"{name}.json").read_text())["suspects"]
    assert [one["requester"] for one in suspects if ALLOCATOR.fullmatch(one["requester"])] == []


def without_sources(told: Any) -> Any:
    """A document, at whatever depth, without what debug information tells."""
    if isinstance(told, dict):
        return {name: without_sources(value) for name, value in told.items() if not name.startswith("source_lines")}
    return [without_sources(value) for value in told] if isinstance(told, list) else told


def body(file: Path, function: str) -> range:
    """The numbers of the lines in which a function is defined."""
    lines = file.read_text().splitlines()
    (first,) = (n for n, line in enumerate(lines) if re.match(rf"(static |int |void ).*\b{function}\(.*[^;]$", line))
    return range(first + 1, lines.index("}", first) + 2)


@pytest.mark.parametrize("name", ["loaded", "unloaded"])
def test_the_data_of_a_leaked_skb_hangs_on_its_head(documents: dict[str, dict[str, Any]], name: str) -> None:
    """Heads are excused where core code may keep them, but these have leaked."""
    leaks = [leak for leak in documents[name]["leaks"] if leak["function"] == "lab_leak_skb"]
    (data,) = [leak for leak in leaks if leak["hangs_on"]]
    (head,) = [leak for leak in leaks if leak["held"]]
    assert head is not data
    assert head["held"]["objects"] == data["objects"] == 4
