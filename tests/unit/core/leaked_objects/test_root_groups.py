# SPDX-License-Identifier: GPL-2.0-or-later
"""Roots by call stack, and how it is said what hangs on them."""

from __future__ import annotations

import pytest
from object_heaps import Heap

from kleaktrace.core.leaked_objects.root_groups import HeldStack, RootGroup, root_groups
from kleaktrace.views.terminal.held import held_words

DEVICE, QUEUE, NAME = 11, 12, 13
NAMES = {DEVICE: "device_add", QUEUE: "queue_alloc", NAME: "kstrdup", 14: "queue_alloc", 15: "e", 16: "f"}


def devices(queues_of_each: tuple[int, ...]) -> Heap:
    """Devices of 512 bytes, each with so many queues of 64, and each queue with a name of 64."""
    heap = Heap()
    for queues in queues_of_each:
        device = heap.add(DEVICE, 512)
        for number in range(queues):
            queue, name = heap.add(QUEUE, 64), heap.add(NAME, 16)
            heap.point(device, queue, at=16 + 8 * number)
            heap.point(queue, name)
    return heap


def groups(heap: Heap) -> tuple[RootGroup, ...]:
    return root_groups(heap.rows, heap.graph())


def test_no_objects_make_no_groups():
    assert groups(Heap()) == ()


def test_group_has_its_roots_and_who_hangs_on_them():
    (group,) = groups(devices((2, 0, 1)))
    assert group == RootGroup(
        stack=DEVICE,
        roots=(0, 5, 6),
        bytes=3 * 512,
        fewest=0,
        most=4,
        held_bytes=6 * 64,
        held_stacks=(HeldStack(QUEUE, 3, 192), HeldStack(NAME, 3, 192)),
    )
    assert group.held == 6


def test_most_bytes_come_first_with_all_that_hangs_on_them():
    heap = devices((1,))
    heap.add(NAME, 512 + 64)
    assert [group.stack for group in groups(heap)] == [DEVICE, NAME]
    heap.add(NAME, 128)
    assert [group.stack for group in groups(heap)] == [NAME, DEVICE]


@pytest.mark.parametrize(
    ("queues", "words"),
    [
        ((0, 0), ""),
        ((1,), "with it 2 more (128 B): 1 by kstrdup, 1 by queue_alloc"),
        ((9, 9), "with each 18 more (1.1 KiB): 9 by kstrdup, 9 by queue_alloc"),
        ((2, 0, 1), "with them 6 more (384 B), 0 to 4 with one: 3 by kstrdup, 3 by queue_alloc"),
    ],
)
def test_words(queues, words):
    assert held_words(groups(devices(queues))[0], NAMES.__getitem__) == words


def test_words_where_each_holds_as_many_but_not_the_same():
    heap = Heap()
    for stack in (QUEUE, NAME):
        heap.point(heap.add(DEVICE, 512), heap.add(stack, 64))
    (group,) = groups(heap)
    assert held_words(group, NAMES.__getitem__) == "with each 1 more (64 B): in all 1 by kstrdup, 1 by queue_alloc"


def test_stacks_that_share_a_name_count_together_and_the_rest_is_others():
    heap = Heap()
    device = heap.add(DEVICE, 512)
    for place, stack in enumerate((NAME, 14, QUEUE, 15, 15, 16)):
        heap.point(device, heap.add(stack, 64), at=16 + 8 * place)
    (group,) = groups(heap)
    assert (
        held_words(group, NAMES.__getitem__) == "with it 6 more (384 B): 2 by e, 2 by queue_alloc, 1 by f, 1 by others"
    )
