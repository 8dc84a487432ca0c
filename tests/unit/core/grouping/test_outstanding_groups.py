# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups of outstanding allocations say whose they are."""

from __future__ import annotations

import numpy as np
import pytest
from event_load import EventLoad

from kleaktrace.core.events.records import Context, Kind
from kleaktrace.core.grouping.group_labels import OUTSTANDING_BY, GroupBy
from kleaktrace.core.grouping.outstanding_groups import group, group_tally
from kleaktrace.core.ledger import ledger as module
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING
from kleaktrace.core.ledger.tally import tally
from kleaktrace.core.symbols.kernel_names import CacheName, KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms


@pytest.mark.parametrize("by", [GroupBy.STACK, GroupBy.CACHE, GroupBy.CONTEXT])
def test_a_group_names_the_tasks_of_all_its_allocations(by: GroupBy) -> None:
    rows = np.zeros(5, OUTSTANDING)
    rows["bytes_alloc"] = 64
    rows["time_ns"] = [5, 4, 3, 2, 1]
    rows["comm"] = [b"one", b"two", b"two", b"one", b"three"]
    names = KernelNames(parse_kallsyms(b"ffffffff81000000 T _text\n"))
    (only,) = group(rows, names, by)
    assert only.comm == "one, three, two"
    assert (only.count, only.bytes, only.oldest_ns) == (5, 320, 1)


def test_a_group_is_reclaimable_if_all_of_it_is() -> None:
    rows = np.zeros(4, OUTSTANDING)
    rows["bytes_alloc"] = [64, 64, 128, 256]
    rows["kind"], rows["cache"] = Kind.CACHE, [7, 8, 7, 8]
    rows["comm"] = [b"both", b"both", b"inodes", b"drv"]
    names = KernelNames(parse_kallsyms(b"ffffffff81000000 T _text\n"))
    names.caches[7], names.caches[8] = CacheName(7, "dentry", 64, 64, True), CacheName(8, "drv", 64, 64)
    found = {one.label: one.reclaimable for one in group(rows, names, GroupBy.COMM)}
    assert found == {"both": False, "inodes": True, "drv": False}
    left = tally(rows).only(~names.reclaimable(tally(rows).rows))
    assert {one.label: one.bytes for one in group_tally(left, names, GroupBy.COMM)} == {"both": 64, "drv": 256}


def busy_ledger() -> Ledger:
    load, ledger = EventLoad(2000, stacks=50), Ledger()
    for batch in load.fill():
        ledger.apply(batch)
    for _ in range(5):
        ledger.apply(load.batch(1000))
    return ledger


@pytest.mark.parametrize("at_once", [1 << 16, 300])
@pytest.mark.parametrize("by", OUTSTANDING_BY)
def test_what_the_ledger_counts_is_what_it_holds(by: GroupBy, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    ledger, names = busy_ledger(), KernelNames(parse_kallsyms(b"ffffffff81000000 T _text\n"))
    rows = ledger.outstanding()
    of = by.by_process
    assert group_tally(ledger.tally(by_process=of), names, by) == group(rows, names, by)
    middle = int(np.median(rows["time_ns"]))
    early = rows[rows["time_ns"] <= middle]
    assert 0 < early.size < rows.size
    assert group_tally(ledger.tally(middle, by_process=of), names, by) == group(early, names, by)
    late = rows[rows["time_ns"] >= middle]
    assert group_tally(ledger.tally(None, middle, of), names, by) == group(late, names, by)
    between = late[late["time_ns"] <= middle + 1000]
    assert group_tally(ledger.tally(middle + 1000, middle, of), names, by) == group(between, names, by)
    assert group_tally(ledger.tally(-1, by_process=of), names, by) == []


def test_processes_and_cgroups_are_told_apart_and_interrupts_are_nobody_s() -> None:
    rows = np.zeros(5, OUTSTANDING)
    rows["bytes_alloc"] = [64, 64, 64, 64, 256]
    rows["comm"], rows["tgid"], rows["tid"] = b"sh", [7, 7, 8, 8, 7], [7, 70, 8, 8, 7]
    rows["cgroup"] = [1, 2, 2, 2, 1]
    rows["context"] = [Context.TASK] * 4 + [Context.SOFTIRQ]
    names = KernelNames(parse_kallsyms(b"ffffffff81000000 T _text\n"))
    found = {one.label: one.count for one in group(rows, names, GroupBy.PID)}
    assert found == {"(softirq)": 1, "7 (sh)": 2, "8 (sh)": 2}
    assert {one.label for one in group(rows, names, GroupBy.CGROUP)} == {"(softirq)", "(cgroup 1)", "(cgroup 2)"}
    counted = tally(rows, by_process=True)
    by_path = group_tally(counted, names, GroupBy.CGROUP, lambda number: f"/slice/{number}")
    assert {one.label: one.count for one in by_path} == {"(softirq)": 1, "/slice/1": 1, "/slice/2": 3}


def test_outstanding_of_some_stacks() -> None:
    ledger = busy_ledger()
    rows = ledger.outstanding()
    asked = [*np.unique(rows["stack"])[3:5].tolist(), 12345]
    of_asked = np.sort(rows[np.isin(rows["stack"], np.array(asked, np.uint64))], order="object")
    assert of_asked.size
    assert np.sort(ledger.outstanding(asked), order="object").tolist() == of_asked.tolist()
    assert ledger.outstanding([]).size == 0


def test_an_empty_ledger_has_no_groups() -> None:
    assert group_tally(Ledger().tally(), KernelNames(parse_kallsyms(b""))) == []
