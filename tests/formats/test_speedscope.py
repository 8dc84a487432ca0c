# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json

import pytest
from jsonschema import Draft7Validator
from readers import SPEEDSCOPE, Written, speedscope

pytestmark = pytest.mark.formats


def test_it_imports_both_profiles(written: Written) -> None:
    profiles, functions = speedscope(written("everything", "speedscope"))
    assert profiles == {"outstanding": "12.81 KB", "allocated": "13.13 KB"}
    assert functions == {
        "core_alloc": ("7.63 KB", "7.63 KB"),
        "(no stack could be taken)": ("4.94 KB", "4.94 KB"),
        "drv_probe [drv]": ("384 B", "256 B"),
        "do_one_initcall": ("384 B", "0 B"),
        "kthread": ("7.50 KB", "0 B"),
    }


def test_it_shows_that_nothing_is_outstanding(written: Written) -> None:
    assert speedscope(written("nothing", "speedscope")) == ({"outstanding": "0 B", "allocated": "0 B"}, {})


def test_hostile_names_are_only_names(written: Written) -> None:
    _, functions = speedscope(written("hostile", "speedscope"))
    assert len(functions) == 2
    assert any(name.startswith('a;b#c "<&>{}') for name in functions)


def test_it_reads_folded_stacks_too(written: Written) -> None:
    _, functions = speedscope(written("everything", "folded"))
    assert functions["core_alloc"] == ("7,808", "7,808")
    assert functions["do_one_initcall"] == ("384", "0")


@pytest.mark.parametrize("recording", ["everything", "nothing", "hostile", "huge"])
def test_it_is_as_its_schema_says(written: Written, recording: str) -> None:
    schema = SPEEDSCOPE.parent / "file-format-schema.json"
    if not schema.exists():
        pytest.skip("speedscope is not here: run tools/setup.sh dev, on a machine with npm")
    Draft7Validator(json.loads(schema.read_text())).validate(json.loads(written(recording, "speedscope").read_text()))
