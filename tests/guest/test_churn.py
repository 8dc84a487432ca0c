# SPDX-License-Identifier: GPL-2.0-or-later
"""A module that comes and goes very many times: nothing is lost, and its functions have their names to the end.

By hand, for more: tools/guest --rwdir=DIR -- .venv/bin/python tests/guest/churn_scenario.py DIR/result.json LAB.KO 1000
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_tool import Guest, result_of

pytestmark = pytest.mark.guest

TIMES = 40


@pytest.fixture(scope="module")
def seen(guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return result_of(guest, "churn_scenario.py", tmp_path_factory.mktemp("churn"), lab_module, TIMES)


def test_nothing_is_lost(seen: Any) -> None:
    assert seen["loads"] == TIMES + 3
    assert seen["lost"] == [{}, 0]


def test_functions_have_their_names_in_the_last_round(seen: Any) -> None:
    assert {"lab_leak_vmalloc_5k", "lab_init_leak", "lab_kept_init"} <= set(seen["functions"])
    assert seen["nameless"] == []


def test_what_was_told_is_not_told_again(seen: Any) -> None:
    assert len(seen["identities"]) < 0.2 * TIMES, "the module comes back to where it was, with the same symbols"
    assert seen["pages_each"] < 1
    assert seen["stack_check"][2] == 0
