# SPDX-License-Identifier: GPL-2.0-or-later
"""What was lost, and what it may have been."""

from __future__ import annotations

import pytest

from kleaktrace.core.events.loss import Allocator, LossWindow
from kleaktrace.core.events.records import Kind


@pytest.mark.parametrize(
    ("kind", "allocator"),
    [
        (Kind.KMALLOC, Allocator.SLAB),
        (Kind.CACHE, Allocator.SLAB),
        (Kind.VMALLOC, Allocator.VMALLOC),
        (Kind.PERCPU, Allocator.PERCPU),
    ],
)
def test_what_can_free_what(kind: Kind, allocator: Allocator) -> None:
    assert Allocator.of(kind) is allocator


def test_any_event_may_have_been_a_free_where_nothing_is_known() -> None:
    window = LossWindow(1, 2, 5)
    assert [window.frees_of(allocator) for allocator in Allocator] == [5, 5, 5, 5]
    assert window.all_frees == 5


def test_no_more_frees_than_events() -> None:
    window = LossWindow(1, 2, 5, (4, 0, 9, 1))
    assert [window.frees_of(allocator) for allocator in Allocator] == [4, 0, 5, 1]
    assert window.all_frees == 5


def test_two_windows_become_one_with_all_that_is_between() -> None:
    assert LossWindow(5, 7, 2, (1, 0, 0)).merged(LossWindow(1, 2, 3, (0, 2, 0))) == LossWindow(1, 7, 5, (1, 2, 0))
    assert LossWindow(5, 7, 2, (1, 0, 0)).merged(LossWindow(1, 2, 3)).frees is None
