# SPDX-License-Identifier: GPL-2.0-or-later
"""The table from one look to the next: groups keep their numbers, and it is known how they went."""

from __future__ import annotations

import numpy as np
import pytest
from builders import SECOND, START_NS, Scene
from event_load import EventLoad

from kleaktrace.core.events.records import Context, Kind
from kleaktrace.core.grouping.group_labels import OUTSTANDING_BY, GroupBy
from kleaktrace.core.grouping.outstanding_groups import group_tally
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.live_table import live_table as module
from kleaktrace.core.live_table.live_table import Asked, LiveTable, TableLook
from kleaktrace.core.symbols.kernel_names import CacheName, KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms

A = 0xFFFF888100000000


def look(table: LiveTable, scene: Scene, at_s: float) -> TableLook:
    asked = table.asked
    now_ns = START_NS + round(at_s * SECOND)
    counted = scene.ledger.tally(now_ns - round(asked.older_s * SECOND), asked.since_ns, asked.by.by_process)
    return table.look(now_ns, counted)


@pytest.mark.parametrize("by", OUTSTANDING_BY)
def test_groups_are_those_of_the_plain_table(by: GroupBy) -> None:
    load, ledger = EventLoad(2000, stacks=50), Ledger()
    names = KernelNames(parse_kallsyms(b"ffffffff81000000 T _text\n"))
    table = LiveTable(Asked(by), names)
    for number, batch in enumerate([*load.fill(), load.batch(1000), load.batch(1000)]):
        ledger.apply(batch)
        seen = table.look(START_NS + number, ledger.tally(by_process=by.by_process))
    known = sorted(
        (seen.groups.labels[group][0], int(seen.counts[group]), int(seen.bytes[group]), int(seen.oldest_ns[group]))
        for group in np.flatnonzero(seen.counts)
    )
    plain = group_tally(ledger.tally(by_process=by.by_process), names, by)
    assert known == sorted((one.label, one.count, one.bytes, one.oldest_ns) for one in plain)


def test_a_row_tells_who_what_how_much_and_how_it_went() -> None:
    scene = Scene()
    table = LiveTable(Asked(), scene.names)
    scene.allocate(1, A)
    (first,) = (look(table, scene, 2).row(0),)
    assert (first.label, first.what) == ("drv_probe [drv]", "kmalloc-128, task, insmod")
    assert (first.count, first.bytes, first.net_bytes, first.levels) == (1, 128, None, (128.0,))
    assert first.oldest_ns == START_NS + SECOND
    scene.allocate(2.5, A + 0x1000)
    scene.allocate(2.6, A + 0x2000, stack=3, comm=b"kthreadd")
    seen = look(table, scene, 4)
    assert (seen.row(0).net_bytes, seen.row(0).levels) == (64.0, (128.0, 256.0))
    assert (seen.row(1).label, seen.row(1).net_bytes, seen.row(1).levels) == ("core_alloc", 64.0, (0.0, 128.0))
    scene.free(4.5, A)
    scene.free(4.5, A + 0x1000)
    seen = look(table, scene, 5)
    assert (seen.counts.tolist(), seen.bytes.tolist()) == ([0, 1], [0, 128])


def test_rates_are_over_the_last_five_seconds_or_two_looks() -> None:
    scene = Scene()
    table = LiveTable(Asked(GroupBy.REQUESTER), scene.names)
    for second in range(10):
        scene.allocate(second, A + second * 0x1000, bytes_alloc=128 if second < 6 else 512)
        seen = look(table, scene, second + 0.5)
    assert seen.net_bytes.tolist() == [512]
    scene.allocate(20, A + 0x100000, bytes_alloc=1024)
    assert look(table, scene, 19.5 + 10).net_bytes.tolist() == [1024 / 20]


def test_only_what_was_asked_for_is_counted() -> None:
    scene = Scene()
    scene.allocate(1, A)
    scene.allocate(5, A + 0x1000, stack=3)
    since = look(LiveTable(Asked(since_ns=START_NS + 5 * SECOND), scene.names), scene, 10)
    assert [since.row(0).label, len(since.groups)] == ["core_alloc", 1]
    older = look(LiveTable(Asked(older_s=6), scene.names), scene, 10)
    assert [older.row(0).label, len(older.groups)] == ["drv_probe [drv]", 1]


def test_a_group_is_reclaimable_if_all_of_it_is() -> None:
    scene = Scene()
    scene.names.caches[7] = CacheName(7, "dentry", 192, 192, True)
    scene.allocate(1, A, kind=Kind.CACHE, cache=7)
    scene.allocate(1, A + 0x1000, stack=3)
    scene.allocate(1, A + 0x2000, stack=3, kind=Kind.CACHE, cache=7)
    by_requester = look(LiveTable(Asked(GroupBy.REQUESTER), scene.names), scene, 2)
    assert {by_requester.row(g).label: by_requester.row(g).reclaimable for g in range(2)} == {
        "drv_probe [drv]": True,
        "core_alloc": False,
    }


def test_what_can_be_reclaimed_is_left_out_of_rows_that_hold_both() -> None:
    scene = Scene()
    scene.names.caches[7] = CacheName(7, "dentry", 192, 192, True)
    scene.allocate(1, A, kind=Kind.CACHE, cache=7)
    scene.allocate(1, A + 0x1000, stack=3, bytes_alloc=64)
    scene.allocate(1, A + 0x2000, stack=3, kind=Kind.CACHE, cache=7)
    seen = look(LiveTable(Asked(GroupBy.REQUESTER, unreclaimable=True), scene.names), scene, 2)
    rows = [seen.row(group) for group in range(seen.counts.size)]
    assert [(row.label, row.count, row.bytes, row.reclaimable) for row in rows] == [("core_alloc", 1, 64, False)]


def test_many_names_are_cut_to_those_that_hold_most() -> None:
    scene = Scene()
    for number in range(6):
        scene.allocate(1, A + number * 0x10000, bytes_alloc=64 << number, comm=f"task{number}".encode())
    seen = look(LiveTable(Asked(), scene.names), scene, 2)
    by_requester = look(LiveTable(Asked(GroupBy.REQUESTER), scene.names), scene, 2)
    assert {seen.row(g).what for g in range(6)} >= {"kmalloc-2k, task, task5"}
    assert by_requester.row(0).what == "kmalloc-2k, kmalloc-1k, kmalloc-512, …, task, task5, task4, task3, …"


def test_what_is_gone_for_long_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WORN_OUT", 4)
    scene = Scene()
    table = LiveTable(Asked(GroupBy.PID), scene.names)
    for number in range(20):
        scene.allocate(number, A, tgid=number, tid=number, context=Context.TASK)
        seen = look(table, scene, number)
        scene.free(number + 0.5, A)
    assert len(seen.groups) < 12
    assert seen.counts.sum() == 1
