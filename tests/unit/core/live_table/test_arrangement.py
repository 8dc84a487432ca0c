# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rows are shown, and in which order."""

from __future__ import annotations

import pytest
from builders import SECOND, START_NS, Scene, suspect

from kleaktrace.core.events.records import Kind
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.live_table.arrangement import Arrangement, Arranger, SortBy
from kleaktrace.core.live_table.live_table import Asked, LiveTable, TableLook
from kleaktrace.core.live_table.stack_verdicts import NO_VERDICTS, StackVerdicts, verdict
from kleaktrace.core.symbols.kernel_names import CacheName

A = 0xFFFF888100000000


@pytest.fixture
def scene() -> Scene:
    """The driver holds 3 small ones, core code one large one, vmalloc a young one that can be reclaimed."""
    scene = Scene()
    scene.names.caches[7] = CacheName(7, "dentry", 192, 192, True)
    for number in range(3):
        scene.allocate(1 + number, A + number * 0x1000)
    scene.allocate(2, A + 0x10000, stack=3, bytes_alloc=8192, comm=b"kthreadd")
    scene.allocate(9, A + 0x20000, stack=4, bytes_alloc=192, kind=Kind.CACHE, cache=7, comm=b"Modprobe")
    return scene


def look(scene: Scene, by: GroupBy = GroupBy.STACK, at_s: float = 10) -> TableLook:
    table = LiveTable(Asked(by), scene.names)
    return table.look(START_NS + round(at_s * SECOND), scene.ledger.tally(by_process=by.by_process))


def requesters(seen: TableLook, verdicts: StackVerdicts = NO_VERDICTS, **wanted: object) -> list[str]:
    order = Arranger().arranged(seen, Arrangement(**wanted), verdicts)  # type: ignore[arg-type]
    return [seen.row(group).what.rpartition(" ")[2] for group in order.tolist()]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (SortBy.BYTES, ["kthreadd", "insmod", "Modprobe"]),
        (SortBy.COUNT, ["insmod", "kthreadd", "Modprobe"]),
        (SortBy.OLDEST, ["insmod", "kthreadd", "Modprobe"]),
        (SortBy.NAME, ["kthreadd", "insmod", "Modprobe"]),
        (SortBy.NET, ["kthreadd", "insmod", "Modprobe"]),
        (SortBy.VERDICT, ["kthreadd", "insmod", "Modprobe"]),
    ],
)
def test_rows_are_sorted_and_of_equals_the_larger_comes_first(scene: Scene, sort: SortBy, order: list[str]) -> None:
    assert requesters(look(scene), sort=sort) == order
    assert requesters(look(scene), sort=sort, reverse=True) == order[::-1]


def test_what_grows_fastest_comes_first(scene: Scene) -> None:
    table = LiveTable(Asked(), scene.names)
    table.look(START_NS, scene.ledger.tally())
    for number in range(3):
        scene.allocate(9, A + 0x30000 + number * 0x1000)
    seen = table.look(START_NS + SECOND, scene.ledger.tally())
    assert requesters(seen, sort=SortBy.NET)[0] == "insmod"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["kthreadd", "insmod", "Modprobe"]),
        ("DRV_probe", ["insmod", "Modprobe"]),
        ("kthread+", ["kthreadd"]),
        ("modprobe", ["Modprobe"]),
        ("dentry", ["Modprobe"]),
        ("kmalloc", ["kthreadd", "insmod"]),
        ("[drv]", ["insmod", "Modprobe"]),
        ("no such text", []),
    ],
)
def test_a_text_is_looked_for_in_all_that_a_row_shows(scene: Scene, text: str, found: list[str]) -> None:
    assert requesters(look(scene), contains=text) == found


def test_what_contains_a_text_is_found_among_those_that_came_later_too(scene: Scene) -> None:
    table, arranger = LiveTable(Asked(), scene.names), Arranger()
    wanted = Arrangement(contains="core_alloc")
    assert arranger.arranged(table.look(START_NS, scene.ledger.tally()), wanted).size == 1
    scene.allocate(9, A + 0x40000, stack=2)
    assert arranger.arranged(table.look(START_NS + 1, scene.ledger.tally()), wanted).size == 2
    assert arranger.arranged(table.look(START_NS + 2, scene.ledger.tally()), Arrangement(contains="kthread")).size == 1
    other = LiveTable(Asked(GroupBy.CACHE), scene.names)
    assert arranger.arranged(other.look(START_NS, scene.ledger.tally()), Arrangement(contains="kthread")).size == 1


def test_requesters_are_found_by_their_caches(scene: Scene) -> None:
    seen = look(scene, GroupBy.REQUESTER)
    for text, found in (("dentry", 1), ("kmalloc-8k", 1), ("kmalloc", 2)):
        assert Arranger().arranged(seen, Arrangement(contains=text)).size == found, text


def test_the_worst_verdict_of_a_row_counts(scene: Scene) -> None:
    judged = scene.judge(*[[suspect(1, A), suspect(2, A + 0x10000, 8192, comm="kthreadd")]] * 3)
    seen = look(scene)
    verdicts = StackVerdicts.of(judged, scene.names, seen.groups.stacks[1].tolist())
    ranks = verdicts.ranks(seen)
    assert [verdict(rank) for rank in ranks.tolist()] == [Verdict.CONFIRMED, Verdict.CONFIRMED, None]
    assert requesters(seen, verdicts, sort=SortBy.VERDICT) == ["kthreadd", "insmod", "Modprobe"]
    assert [s.verdict for s in verdicts.of_stacks(seen.groups.stacks[1][:1])] == [Verdict.CONFIRMED]
    by_context = look(scene, GroupBy.CONTEXT)
    assert verdicts.ranks(by_context).tolist() == [3]
    assert NO_VERDICTS.ranks(seen).tolist() == [0, 0, 0]
