# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's loss counters, in words and by what they can have hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest
from c_headers import program_names

from kleaktrace.core.events.loss import Allocator, LossWindow, LostEvents
from kleaktrace.edge.tracing.abi import Counter
from kleaktrace.edge.tracing.loss_counters import FREES_OF, MADE_GOOD, LossCounters, skipped_events

FREEING_NOTHING = {
    *("first_kmalloc", "first_kmalloc_node", "first_kmem_cache_alloc", "first_kmem_cache_alloc_node"),
    *("kretfunc__BULK_ALLOC_FUNCTION", "on_bulk_alloc_entry", "on_bulk_alloc_return"),
    *("kretfunc__VMALLOC_FUNCTION", "on_vmalloc_entry", "on_vmalloc_return", "on_alloc_vmap_area"),
    *("on_percpu_alloc", "first_mm_page_alloc"),
    *("kretfunc__BULK_PAGES_FUNCTION", "on_bulk_pages_entry", "on_bulk_pages_return"),
    *("on_module_load", "on_module_free", "on_exec", "on_task_change", "read_object", "pages_free_before"),
}
OF_INJECTION = {
    *("on_should_failslab", "on_should_fail_alloc_page", "on_fork", "watch_me", "on_load", "on_unload"),
}
"""They are in an object of their own, whose missed runs nobody counts."""


def counters(**counted: int) -> LossCounters:
    totals = [0] * len(Counter)
    for name, count in counted.items():
        totals[Counter[name]] = count
    return LossCounters(totals)


def test_a_missed_return_of_vmalloc_hides_no_free() -> None:
    lost = counters(VMALLOC_UNRETURNED=30, VMALLOC_UNCALLED=6)
    assert lost.events == 36
    assert lost.frees == (0, 0, 0, 0)
    assert lost.causes == (
        LostEvents("vmallocs whose return no kretprobe saw", 30),
        LostEvents("vmallocs whose call no kprobe saw", 6),
    )


def test_a_full_ring_hides_frees_of_one_allocator() -> None:
    lost = counters(FULL_RING_KFREE=1, FULL_RING_CACHE_FREE=2, FULL_RING_VFREE=4, FULL_RING_PERCPU_FREE=8)
    assert lost.frees == (3, 4, 8, 0)
    assert counters(FULL_RING_KMALLOC=5, FULL_TABLE=2, BULK_ALLOC_UNCALLED=1).frees == (0, 0, 0, 0)


def test_a_lost_free_of_pages_hides_only_pages() -> None:
    assert counters(FULL_RING_PAGE_FREE=3, FULL_RING_PAGE_ALLOC=9).frees == (0, 0, 0, 3)
    assert LossCounters(skipped={"first_mm_page_alloc": 5}).frees == (0, 0, 0, 0)


def test_what_another_program_makes_good_is_no_loss() -> None:
    runs = {"first_kfree": 4, "second_kfree": 1, "first_mm_page_free": 9, "first_mm_page_alloc": 2, "first_kmalloc": 3}
    taken = counters(TAKEN_KFREE=3, TAKEN_PAGE_ALLOC=2, TAKEN_KMALLOC=4).totals
    skipped = skipped_events(runs, taken)
    assert skipped == {"first_kfree": 1, "first_mm_page_alloc": 0, "first_kmalloc": -1}
    before = LossCounters(taken, {"first_kmalloc": -1, "first_kfree": 1})
    assert LossCounters(taken, {**skipped, "first_kmalloc": 0}).since(before).skipped == {
        "first_kfree": 0,
        "first_mm_page_alloc": 0,
        "first_kmalloc": 1,
    }


def test_what_is_no_loss_of_an_event_is_not_counted_as_one() -> None:
    quiet = counters(LOST_STACKS=1, LOST_NAMES=1, TAKEN_KFREE=9, UNWOUND_STACKS=9, LOST_SAMPLES=3)
    assert (quiet.events, quiet.causes) == (0, ())


def test_skipped_events_are_told_by_what_they_were() -> None:
    lost = LossCounters(skipped={"first_kfree": 3, "first_kmem_cache_free": 1, "first_kmalloc": 7, "on_percpu_free": 2})
    assert (lost.events, lost.all_skipped, lost.frees) == (13, 13, (4, 0, 2, 0))
    assert lost.causes == (
        LostEvents("kmallocs during which both programs for them were at work", 7),
        LostEvents("kfrees during which both programs for them were at work", 3),
        LostEvents("events during which the only program for them was at work (on_percpu_free)", 2),
        LostEvents("slab cache frees during which both programs for them were at work", 1),
    )


def test_of_each_program_of_the_c_side_it_is_known_what_its_missed_runs_hide() -> None:
    known = [*FREES_OF, *MADE_GOOD, *FREEING_NOTHING, *OF_INJECTION]
    assert len(known) == len(set(known))
    assert set(known) == program_names()


@pytest.mark.parametrize(
    ("program", "allocator"),
    [
        ("first_kfree", Allocator.SLAB),
        ("kfunc__vfree", Allocator.VMALLOC),
        ("on_free_vmap_area_noflush", Allocator.VMALLOC),
        ("on_percpu_free", Allocator.PERCPU),
        ("kretfunc____kfree_rcu_sheaf", Allocator.SLAB),
        ("on_module_free", None),
    ],
)
def test_a_program_s_missed_runs_hide_frees_of_its_own_allocator(program: str, allocator: Allocator | None) -> None:
    assert LossCounters(skipped={program: 3}).frees == tuple(3 if one is allocator else 0 for one in Allocator)


def test_a_window_holds_what_was_lost_since() -> None:
    before = counters(FULL_RING_KFREE=1)
    now = replace(counters(FULL_RING_KFREE=4, FULL_RING_KMALLOC=2), skipped={"first_kmalloc": 1})
    assert now.window_since(before, 10, 20) == LossWindow(10, 20, 6, (3, 0, 0, 0))
    assert before.window_since(before, 20, 30) is None
