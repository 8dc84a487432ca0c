# SPDX-License-Identifier: GPL-2.0-or-later
"""Frees in interrupts that come upon each other, while programs are at work underneath: seen, or known to be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_tool import Guest, build_module, result_of

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def seen(guest: Guest, kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    module = build_module(Path(__file__).with_name("nested_module"), kernel_tree) / "nested.ko"
    return result_of(guest, "nested_scenario.py", tmp_path_factory.mktemp("nested"), module)


@pytest.mark.parametrize("event", ["kfree", "kmem_cache_free"])
def test_programs_were_found_at_work_two_deep(seen: Any, event: str) -> None:
    print(seen["missed"])
    assert seen["missed"][f"first_{event}"] > 100
    assert seen["missed"][f"second_{event}"] > 0


def test_each_that_was_not_seen_is_known_to_be_lost(seen: Any) -> None:
    """It is still there for us, or its free is implied by who got the memory next. Of others hardly any is lost."""
    print(seen)
    assert seen["allocations"] > 100_000
    lost, of_module = sum(seen["lost"].values()), seen["left"] + seen["implied"]
    assert of_module <= lost <= of_module + 10
    assert lost < (seen["missed"]["first_kfree"] + seen["missed"]["first_kmem_cache_free"]) / 10
    assert all("both programs" in cause for cause in seen["lost"])
