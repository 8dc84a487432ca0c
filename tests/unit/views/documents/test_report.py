# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document against its contract: every field there, of the right type, whatever the session was like."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from reports import EVIL, START_NS, group, growing_stack, judged, report
from schemas import validated

from kleaktrace.core.events.coverage import Coverage
from kleaktrace.core.events.loss import Loss, LossWindow
from kleaktrace.core.events.records import Context
from kleaktrace.core.evidence.evidence import Freed, Verdict
from kleaktrace.core.evidence.stack_evidence import Siblings
from kleaktrace.core.report import CommandResult, Outcome, Report
from kleaktrace.core.symbols.call_stacks import NO_STACK
from kleaktrace.views.documents.json_text import dumps
from kleaktrace.views.documents.report import document

NUMBER = (int, float)


class Maybe:
    """Null, or of this shape."""

    def __init__(self, shape: object) -> None:
        self.shape = shape


class Among(tuple[str, ...]):
    """One of these words."""


LIST_OF_TEXT = [str]
CONTRACT: dict[str, object] = {
    "schema": int,
    "kernel": {"release": str, "arch": str},
    "window": {"start": str, "seconds": NUMBER},
    "coverage": [{"kind": str, "source": Maybe(str), "note": str}],
    "loss": {"events": int, "stacks": int, "windows": [[NUMBER]]},
    "totals": {
        "allocations": int,
        "frees": int,
        "outstanding": int,
        "outstanding_bytes": int,
        "implied_frees": int,
    },
    "suspects": [
        {
            "source": Among(("kmemleak", "unload")),
            "address": str,
            "size": int,
            "verdict": Among(("confirmed", "dismissed", "undecided")),
            "reason": str,
            "age_s": NUMBER,
            "comm": str,
            "pid": int,
            "context": Among(("task", "softirq", "hardirq", "nmi")),
            "cache": str,
            "stack": LIST_OF_TEXT,
            "siblings": {"allocated": int, "freed": int, "outstanding": int},
            "freed": Maybe({"after_s": Maybe(NUMBER), "site": str}),
        }
    ],
    "growing": [
        {
            "stack": LIST_OF_TEXT,
            "key": str,
            "outstanding": int,
            "bytes": int,
            "bytes_per_s": NUMBER,
            "ci95": [NUMBER],
            "leak_fraction": NUMBER,
            "context": str,
            "comm": str,
        }
    ],
    "outstanding": [
        {"stack": LIST_OF_TEXT, "count": int, "bytes": int, "oldest_s": NUMBER, "cache": str, "context": str}
    ],
    "verdict": Among(("clean", "leaks", "incomplete")),
}


def breaches(value: Any, shape: Any, where: str = "document") -> list[str]:
    """Where a value breaks the contract. Fields that the contract does not name are welcome."""
    match shape:
        case Maybe():
            return [] if value is None else breaches(value, shape.shape, where)
        case Among():
            fits = value in shape
        case dict():
            fits = isinstance(value, dict)
        case list():
            fits = isinstance(value, list)
        case _:
            fits = isinstance(value, shape) and not isinstance(value, bool)
    found = [] if fits else [f"{where} is {value!r}"]
    if fits and isinstance(shape, dict):
        found += [f"{where}.{name} is missing" for name in shape if name not in value]
        for name in shape.keys() & value.keys():
            found += breaches(value[name], shape[name], f"{where}.{name}")
    if fits and isinstance(shape, list):
        for number, item in enumerate(value):
            found += breaches(item, shape[0], f"{where}[{number}]")
    return found


FULL = report(
    loss=Loss(5, 2, 1, (LossWindow(START_NS + 10**9, START_NS + 2 * 10**9, 5),)),
    suspects=[
        judged(),
        judged(
            source="unload",
            verdict=Verdict.UNDECIDED,
            context=Context.NMI,
            siblings=Siblings(9, 8, 1, 64, 0.25, (("core_free+0x22/0x1000", 8),)),
        ),
        judged(verdict=Verdict.DISMISSED, freed=Freed(30.5, "core_free+0x22/0x1000"), context=Context.SOFTIRQ),
        judged(verdict=Verdict.DISMISSED, freed=Freed(None, "an unknown caller"), bytes_req=None, bytes_alloc=None),
    ],
    growing=[growing_stack(), growing_stack(frames=(), listed=2)],
    outstanding=[group(), group(stack=NO_STACK)],
    outcome=Outcome.LEAKS,
    gaps=["5 events were lost"],
    command=CommandResult(("false", "-x"), 1),
)


@pytest.mark.parametrize("what", [report(), report(outstanding=(), coverage=()), FULL], ids=["clean", "empty", "full"])
def test_every_field_of_the_contract_is_there(what: Report) -> None:
    told = validated(json.loads(dumps(document(what))))
    assert breaches(told, CONTRACT) == []


def test_the_contract_itself_finds_breaches() -> None:
    broken = json.loads(dumps(document(FULL)))
    del broken["totals"]["frees"]
    broken["suspects"][0]["context"] = "process"
    broken["suspects"][1]["pid"] = "42"
    broken["loss"]["events"] = True
    assert sorted(breaches(broken, CONTRACT)) == [
        "document.loss.events is True",
        "document.suspects[0].context is 'process'",
        "document.suspects[1].pid is '42'",
        "document.totals.frees is missing",
    ]


def test_the_figures_are_the_report_s() -> None:
    found = document(FULL)
    assert found["schema"] == 1
    assert found["kernel"] == {"release": "6.12.0", "arch": "x86_64"}
    assert datetime.fromisoformat(found["window"]["start"]).utcoffset() is not None
    assert found["window"] == {"start": "2025-01-02T03:04:05+00:00", "seconds": 31.5}
    assert found["loss"]["windows"] == [[1.0, 2.0]]
    assert found["coverage"][1] == {"kind": "percpu", "source": None, "note": "are not seen"}
    assert found["totals"]["unknown_frees"] == 7
    leak, left, freed, watched = found["suspects"]
    assert (leak["address"], leak["size"], leak["bytes_req"], leak["bytes_alloc"]) == (
        "0xffff888100010000",
        128,
        100,
        128,
    )
    assert (leak["stack"][0], leak["freed"], leak["in_window"]) == ("drv_probe+0x22/0x100 [drv]", None, True)
    assert left["siblings"]["free_sites"] == [{"site": "core_free+0x22/0x1000", "count": 8}]
    assert left["siblings"]["median_lifetime_s"] == 0.25
    assert freed["freed"] == {"after_s": 30.5, "site": "core_free+0x22/0x1000"}
    assert watched["freed"] == {"after_s": None, "site": "an unknown caller"}
    assert found["growing"][0] == {
        "stack": ["drv_probe+0x22/0x100 [drv]", "do_one_initcall+0x22/0x1000"],
        "key": leak["key"],
        "requester": "drv_probe [drv]",
        "outstanding": 340,
        "bytes": 43520,
        "bytes_per_s": 1229.0,
        "ci95": [1126.0, 1331.0],
        "leak_fraction": 0.12,
        "leak_fraction_ci95": [0.1, 0.15],
        "for_s": 30.5,
        "ended_s_ago": None,
        "context": "task",
        "comm": "insmod",
        "cache": "kmalloc-128",
        "listed": None,
        "kept": "",
    }
    assert found["outstanding"][0]["oldest_s"] == 21.5
    assert found["outstanding"][1]["stack"] == []
    assert found["command"] == {"arguments": ["false", "-x"], "status": 1}
    assert found["runs"] == {"total": 1, "failed": 0, "timed_out": False}
    assert found["gaps"] == ["5 events were lost"]
    assert found["verdict"] == "leaks"


def test_an_allocation_after_the_end_is_not_of_a_negative_age() -> None:
    found = document(report(outstanding=[group(oldest_ns=START_NS + 10**12)]))
    assert found["outstanding"][0]["oldest_s"] == 0


def test_the_text_is_ascii_and_gives_hostile_names_back_exactly() -> None:
    evil = EVIL + "\x9b\u202e\udcff名"
    text = dumps(document(report(suspects=[judged(comm=evil)], coverage=[Coverage(evil, None, evil)])))
    assert text.isascii()
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.endswith("}\n")
    assert json.loads(text)["suspects"][0]["comm"] == evil
