# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from collections import Counter
from typing import Any

from exported import everything, exported, hostile, nothing, with_losses

from kleaktrace.views.documents.report import document
from kleaktrace.views.exports.jsonl import export


def lines(text: str) -> list[dict[str, Any]]:
    assert text.isascii()
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_says_what_it_is() -> None:
    told = lines(export(exported(everything())))
    assert told[0]["type"] == "recording"
    kinds = Counter(line["type"] for line in told)
    assert kinds == {
        "recording": 1,
        "loss": 1,
        "stack": 4,
        "coverage": 6,
        "suspect": 3,
        "leak": 1,
        "growing": 1,
        "missing": 1,
    }


def test_the_lines_are_the_document_s_taken_apart() -> None:
    material = exported(everything())
    whole, told = json.loads(json.dumps(document(material.report))), lines(export(material))
    first = dict(told[0])
    del first["type"]
    assert first == {name: whole[name] for name in first}
    assert not first.keys() & {"loss", "outstanding", "suspects"}
    assert {"schema", "kernel", "window", "totals", "verdict", "gaps", "command"} <= first.keys()
    suspects = [line for line in told if line["type"] == "suspect"]
    assert suspects == [{"type": "suspect", **one} for one in whole["suspects"]]


def test_a_stack() -> None:
    confirmed = [line for line in lines(export(exported(everything()))) if line.get("verdict") == "confirmed"]
    assert next(line for line in confirmed if line["type"] == "stack") == {
        "type": "stack",
        "key": next(line["key"] for line in confirmed if line["type"] == "suspect"),
        "stack": ["drv_probe+0x22/0x100 [drv]", "do_one_initcall+0x22/0x1000"],
        "caches": ["kmalloc-128"],
        "contexts": ["task"],
        "outstanding": 2,
        "outstanding_bytes": 256,
        "oldest_s": 59.0,
        "allocations": 3,
        "allocated_bytes": 576,
        "frees": 1,
        "implied_frees": 0,
        "verdict": "confirmed",
    }


def test_nothing_loss_and_hostile_names() -> None:
    assert [line["type"] for line in lines(export(exported(nothing())))][:2] == ["recording", "loss"]
    loss = lines(export(exported(with_losses())))[1]
    assert (loss["events"], loss["windows"]) == (7, [[1.0, 2.0]])
    text = export(exported(hostile()))
    assert text.count("\n") == len(lines(text))
    assert "\x1b" not in text
