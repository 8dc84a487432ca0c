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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("first_kfree", "second_kfree"),
        ("first_kmem_cache_free", "second_kmem_cache_free"),
        ("kfunc__kmem_cache_free_bulk", "second_kmem_cache_free_bulk"),
    ],
)
def test_programs_were_found_at_work_two_deep(seen: Any, first: str, second: str) -> None:
    print(seen["missed"])
    assert seen["missed"][first] > 100
    assert seen["missed"][second] > 0


def test_vfree_was_found_at_work(seen: Any) -> None:
    assert seen["missed"]["kfunc__vfree"] > 20
    assert seen["missed"]["kfunc__vfree_atomic"] > 0


def test_each_that_was_not_seen_is_known_to_be_lost(seen: Any) -> None:
    """It is still there for us, or its free is implied by who got the memory next. Of others hardly any is lost.

    A vfree in an interrupt is told of three times: vfree, vfree_atomic, and vfree again by the worker that does it.
    """
    print(seen)
    assert seen["allocations"] > 100_000
    lost = sum(events for cause, events in seen["lost"].items() if not cause.startswith("vfrees"))
    of_module = sum(seen["left"].values()) + sum(seen["implied"].values())
    assert "vmalloc" not in seen["left"]
    assert of_module <= lost <= of_module + 10
    firsts = ("first_kfree", "first_kmem_cache_free", "kfunc__kmem_cache_free_bulk")
    assert lost < sum(seen["missed"][first] for first in firsts) / 10
    assert all("both programs" in cause for cause in seen["lost"])
