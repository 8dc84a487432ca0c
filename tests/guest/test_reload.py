# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept does not grow with how often a module comes and goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_tool import Guest, result_of

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def seen(guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return result_of(guest, "reload_scenario.py", tmp_path_factory.mktemp("reload"), lab_module)


def test_a_stack_of_the_kernels_own_code_keeps_its_key(seen: Any) -> None:
    assert seen["of_program"] > 20
    assert seen["new_of_program"] < 0.2 * seen["of_program"]  # what was in a slab the first time


def test_a_stack_through_the_module_goes_by_the_key_it_had_at_first(seen: Any) -> None:
    assert seen["of_module"] >= 3
    assert seen["new_of_module"] <= 0.2 * seen["of_module"]


def test_a_cache_keeps_its_key(seen: Any) -> None:
    assert seen["caches"][-1] < 1.2 * seen["caches"][0]
