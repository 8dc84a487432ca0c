# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of rates as people see it, and its document."""

from __future__ import annotations

import json
import math

from reports import EVIL, console, printed, report
from schemas import validated

from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.growth.level_history import StartUp
from kleaktrace.core.rates.rate_table import GroupRate, RateTable
from kleaktrace.views.documents.json_text import dumps
from kleaktrace.views.documents.rates import document
from kleaktrace.views.terminal.rates import lines

UNKNOWN = Interval(0.0, -math.inf, math.inf)


def table(**fields: object) -> RateTable:
    known: dict[str, object] = {
        "by": GroupBy.CONTEXT,
        "seconds": 60.0,
        "groups": (
            GroupRate("kworker: drv_work [drv]", 50.0, 0.0, Interval(12800.0, 12500.0, 13100.0), 3000, 768_000),
            GroupRate("task", 12_500.0, 12_499.0, Interval(-100.0, -3000.0, 2800.0), 60, 6000),
            GroupRate("softirq: net_rx_action", 1.5, 0.0, UNKNOWN, 90, 9000),
        ),
        "traced": Interval(12_700.0, 11_000.0, 14_400.0),
        "start_up": StartUp(0.0, 0),
        "reclaimable": Interval(-50.0, -60.0, -40.0),
        "machine": {"Slab": Interval(12_000.0, 1.0, 2.0), "VmallocUsed": Interval(-4096.0, 1.0, 2.0)},
        "machine_whole": Interval(12_900.0, 10_240.0, 15_360.0),
        "unknown_frees": 0.5,
        "lost": 0,
    }
    return RateTable(**{**known, **fields})  # type: ignore[arg-type]


def shown(what: RateTable, frames: int = 12, width: int = 200) -> str:
    screen = console(200)
    screen.print(lines(what, frames, width), soft_wrap=True)
    return printed(screen)


def test_a_table() -> None:
    assert shown(table()) == (
        "rates by context over 60.0 s\n"
        "       net/s              95 % interval  alloc/s   free/s      count      bytes  context\n"
        "   +12.5 KiB     +12.2 KiB to +12.8 KiB     50.0        0      3,000  750.0 KiB  kworker: drv_work [drv]\n"
        "      -100 B       -2.9 KiB to +2.7 KiB    12.5k    12.5k         60    5.9 KiB  task\n"
        "         0 B              not known yet      1.5        0         90    8.8 KiB  softirq: net_rx_action\n"
        "all that was traced: +12.4 KiB/s (95 %: +10.7 KiB to +14.1 KiB)\n"
        "  of it reclaimable: -50 B/s (95 %: -60 B to -40 B)\n"
        "the machine itself:  Slab +11.7 KiB/s, VmallocUsed -4.0 KiB/s\n"
        "explained: 98 % (95 %: 72 to 141) of the growth of the machine's slab, vmalloc and per-CPU memory, "
        "+12.6 KiB/s (95 %: +10.0 KiB to +15.0 KiB)\n"
    )


def test_where_there_is_little_room_names_have_it() -> None:
    headings, leak, churn = shown(table(), width=80).splitlines()[1:4]
    assert headings == "    net/s          95 % interval     bytes  context"
    assert leak == "+12.5 KiB +12.2 KiB to +12.8 KiB 750.0 KiB  kworker: drv_work [drv]"
    assert churn == "   -100 B   -2.9 KiB to +2.7 KiB   5.9 KiB  task"


def test_what_came_at_first_and_then_no_more_is_told() -> None:
    text = shown(table(start_up=StartUp(26.04, 61_542)))
    assert "KiB)\n  but at first, for 26.0 s: +60.1 KiB in all\n  of it reclaimable" in text
    document_of = document(table(start_up=StartUp(26.04, 61_542)), report())
    assert document_of["start_up"] == {"seconds": 26.04, "bytes": 61_542}


def test_a_machine_that_does_not_grow_and_what_was_there_before() -> None:
    text = shown(table(machine_whole=Interval(50.0, -10.0, 110.0), unknown_frees=12.0))
    assert "explained: the machine's slab, vmalloc and per-CPU memory does not clearly grow\n" in text
    assert text.endswith("not in these rates: 12.0 frees/s of what was allocated before tracing began\n")
    assert "explained: -10 % (95 %: -20 to -0) of" in shown(table(traced=Interval(-1290.0, -2048.0, -1.0)))
    assert "explained: an unknown share of" in shown(table(traced=UNKNOWN))


def test_more_than_the_machine_grows_by_is_explained_too() -> None:
    assert "above 100 %: the allocators had room" in shown(table(machine_whole=Interval(5000.0, 4000.0, 6000.0)))
    assert "above 100 %" not in shown(table())


def test_loss_is_in_the_first_line() -> None:
    assert shown(table(lost=1204)).startswith("rates by context over 60.0 s, 1,204 events LOST\n")


def test_call_stacks_have_their_frames_below() -> None:
    group = GroupRate("f1+0x1/0x2\nf2+0x1/0x2\nf3+0x1/0x2", 1.0, 0.0, UNKNOWN, 1, 8)
    text = shown(table(by=GroupBy.STACK, groups=[group]), frames=2)
    assert "  call stack\n" in text
    assert "  f1+0x1/0x2\n      f2+0x1/0x2\n      … 1 more\n" in text
    assert "f3" in shown(table(by=GroupBy.STACK, groups=[group]), frames=3)


def test_nothing_was_allocated() -> None:
    assert "(nothing was allocated)\n" in shown(table(groups=()))


def test_nothing_from_the_kernel_reaches_the_terminal_raw() -> None:
    text = shown(table(by=GroupBy.COMM, groups=[GroupRate(f"{EVIL}\n{EVIL}", 1.0, 0.0, UNKNOWN, 1, 8)]))
    assert text.count("\\x1b[2J") == 2
    assert all(line.isprintable() for line in text.split("\n"))


def test_the_document() -> None:
    found = validated(json.loads(dumps(document(table(), report()))))
    assert found["schema"] == 1
    assert found["by"] == "context"
    assert {"kernel", "window", "loss", "coverage", "totals"} <= set(found)
    assert found["rates"][0] == {
        "group": "kworker: drv_work [drv]",
        "allocations_per_s": 50.0,
        "frees_per_s": 0.0,
        "bytes_per_s": 12800.0,
        "ci95": [12500.0, 13100.0],
        "outstanding": 3000,
        "bytes": 768_000,
    }
    assert found["rates"][2]["ci95"] is None
    assert found["reclaimable"] == {"bytes_per_s": -50.0, "ci95": [-60.0, -40.0]}
    assert found["machine"]["VmallocUsed"]["bytes_per_s"] == -4096.0
    assert found["explained"] == {"share": 0.9845, "ci95": [0.7161, 1.4062]}
    assert validated(json.loads(dumps(document(table(machine_whole=UNKNOWN), report()))))["explained"] is None
    unknown = validated(json.loads(dumps(document(table(traced=UNKNOWN), report()))))
    assert unknown["explained"] == {"share": 0.0, "ci95": None}
