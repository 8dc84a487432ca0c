# SPDX-License-Identifier: GPL-2.0-or-later
"""Events of tasks and interrupts while programs are at work underneath: seen once, or known to be lost."""

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


def test_no_event_is_recorded_twice(seen: Any) -> None:
    """Not when a task is moved to another CPU between the two programs, either, as it may be since v7.0."""
    print(seen["busy"], seen["taken_twice"])
    assert seen["busy"]["allocations"] > 20_000
    assert seen["busy"]["taken_twice"] == {}
    assert seen["taken_twice"] == {}


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


def test_each_that_was_not_seen_is_known_to_be_lost(seen: Any) -> None:
    """It is still there for us, or its free is implied by who got the memory next. Of others hardly any is lost.

    Since v6.3 a vfree in an interrupt is told of three times: vfree, vfree_atomic, and vfree again by the worker that
    does it. Until then, its own is all there is.
    """
    print(seen)
    assert seen["allocations"] > 100_000
    vfrees = sum(events for cause, events in seen["lost"].items() if cause.startswith("vfrees"))
    lost = sum(seen["lost"].values()) - vfrees
    of_vmalloc = seen["left"].pop("vmalloc", 0) + seen["implied"].pop("vmalloc", 0)
    of_slab = sum(seen["left"].values()) + sum(seen["implied"].values())
    assert of_vmalloc <= vfrees
    assert of_slab <= lost <= of_slab + 10
    firsts = ("first_kfree", "first_kmem_cache_free", "kfunc__kmem_cache_free_bulk")
    assert lost < sum(seen["missed"][first] for first in firsts) / 10
    assert all("both programs" in cause for cause in seen["lost"])
