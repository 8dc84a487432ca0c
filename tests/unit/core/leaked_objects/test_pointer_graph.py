# SPDX-License-Identifier: GPL-2.0-or-later
"""Which leaked objects hang on which: shapes that kernels make, and any shape against the plain way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_heaps import HEAP, NOTHING, SLOT, Heap, plain_edges, plain_owners

from kleaktrace.core.events.records import Kind, hide
from kleaktrace.core.leaked_objects.pointer_graph import Descriptions, object_graph

DEVICE, QUEUE, NAME = 1, 2, 3


def test_nothing_leaked_has_no_roots():
    assert Heap().graph().root_of.size == 0


def test_what_is_pointed_to_hangs_on_it_to_any_depth():
    heap = Heap()
    name, queue, device = heap.add(NAME, 16), heap.add(QUEUE, 64), heap.add(DEVICE, 1024)
    heap.point(device, queue)
    heap.point(queue, name, inside=0)
    graph = heap.graph()
    assert graph.root_of.tolist() == [device] * 3
    assert graph.held.tolist() == [0, 0, 2]
    assert graph.held_bytes.tolist() == [0, 0, 128]


def test_pointer_to_a_member_counts_and_one_past_the_end_is_the_neighbours():
    heap = Heap()
    device, queue, neighbour = heap.add(DEVICE), heap.add(QUEUE, SLOT), heap.add(NAME)
    heap.point(device, queue, inside=SLOT - 1)
    assert heap.roots() == [device, neighbour]
    heap.point(device, queue, inside=SLOT)
    assert heap.roots() == [device, queue]
    heap.words[device][:] = hide(HEAP - 1)
    assert heap.roots() == [device, queue, neighbour]


def described(heap: Heap, nodes: Sequence[int], parts: Sequence[int] = ()) -> list[int]:
    """The root of each object, if some are nodes of kernfs, and some belong to nodes."""
    numbers = np.arange(len(heap.words))
    return object_graph(
        heap.rows, heap.words, Descriptions(np.isin(numbers, nodes), np.isin(numbers, parts))
    ).root_of.tolist()


def test_what_only_describes_an_object_hangs_on_it_with_its_own_name():
    heap = Heap()
    node, kobject, name = heap.add(DEVICE, 128), heap.add(QUEUE, 64), heap.add(NAME, 16)
    heap.point(node, kobject)
    heap.point(node, name, at=16)
    assert heap.roots() == [node]
    assert described(heap, [node], [name]) == [kobject] * 3
    heap.point(kobject, node)  # until it is removed
    assert described(heap, [node], [name]) == [kobject] * 3


def test_a_removed_node_that_points_to_its_parent_hangs_on_it():
    heap = Heap()
    child, parent, kobject = heap.add(DEVICE, 128), heap.add(QUEUE, 128), heap.add(NAME, 512)
    heap.point(child, parent)
    heap.point(parent, kobject)
    assert heap.roots() == [child]
    assert described(heap, [child, parent]) == [kobject] * 3


def test_a_node_whose_own_kobject_did_not_leak_hangs_on_what_lies_below_it():
    heap = Heap()
    directory, node, kobject = heap.add(DEVICE, 128), heap.add(QUEUE, 128), heap.add(NAME, 512)
    heap.point(node, directory)
    heap.point(node, kobject, at=16)
    assert described(heap, [directory, node]) == [kobject] * 3


def test_nothing_hangs_on_what_nobody_could_write_to_any_more():
    heap = Heap()
    device, queue, later = heap.add(DEVICE), heap.add(QUEUE), heap.add(NAME)
    heap.point(device, queue)
    heap.point(device, later, at=24)
    assert heap.roots() == [device]
    until_ns = heap.rows["time_ns"] + 10
    assert object_graph(heap.rows, heap.words, until_ns=until_ns).root_of.tolist() == [device] * 3
    until_ns[device] = heap.rows["time_ns"][later] - 1
    assert object_graph(heap.rows, heap.words, until_ns=until_ns).root_of.tolist() == [device, device, later]


def test_what_the_allocator_added_neither_holds_nor_is_held():
    heap = Heap()
    device, queue = heap.add(DEVICE, size=100), heap.add(QUEUE, size=100)
    heap.point(device, queue, at=96)  # 100 bytes end within this word
    heap.point(queue, device, inside=100)
    assert heap.roots() == [device, queue]
    heap.point(device, queue, at=88, inside=99)
    assert heap.roots() == [device]


def test_link_of_a_free_object_is_no_pointer():
    heap = Heap()
    first, second, larger = heap.add(DEVICE, 128), heap.add(QUEUE, 128), heap.add(NAME, 256)
    heap.point(first, second, at=64)
    assert heap.roots() == [first, second, larger]
    heap.point(first, second, at=64, inside=8)
    heap.point(larger, first, at=128)  # it is of another cache
    assert heap.roots() == [larger]
    small, name = heap.add(DEVICE, 32, bytes_alloc=32), heap.add(NAME, 32, bytes_alloc=32)
    heap.point(small, name, at=16)  # four words: none of them is left unwritten
    assert heap.roots() == [larger, small]


def test_pointer_to_oneself_means_nothing():
    heap = Heap()
    device = heap.add(DEVICE)
    heap.point(device, device, inside=8)
    assert heap.roots() == [device]
    assert heap.graph().held.tolist() == [0]


def test_ten_equals_on_a_list_are_ten_roots():
    heap = Heap()
    devices = [heap.add(DEVICE) for _ in range(10)]
    for one, after in pairwise(devices):
        heap.point(one, after, inside=8)
        heap.point(after, one, at=16, inside=8)
    assert heap.roots() == devices


def test_equals_on_a_list_keep_what_is_their_own():
    heap = Heap()
    devices = [heap.add(DEVICE, 512) for _ in range(5)]
    queues = [heap.add(QUEUE) for _ in devices]
    for device, queue in zip(devices, queues, strict=True):
        heap.point(device, queue, at=32)
        heap.point(queue, device, at=32)  # back to its parent
    for one, after in pairwise(devices):
        heap.point(one, after, inside=8)
        heap.point(after, one, at=16, inside=8)
    assert heap.graph().root_of.tolist() == devices * 2


def test_one_device_holds_all_that_is_on_its_list():
    heap = Heap()
    queues = [heap.add(QUEUE, 4096) for _ in range(17)]  # larger than the device, and older
    device = heap.add(DEVICE, 256)
    ring = [device, *queues, device]
    for one, after in pairwise(ring):
        heap.point(one, after, at=8, inside=8)
        heap.point(after, one, at=16, inside=8)
    assert heap.roots() == [device]
    assert heap.graph().held[device] == 17


def test_of_a_list_without_a_way_back_all_hang_on_whom_points_to_one():
    heap = Heap()
    device, *queues = [heap.add(DEVICE), *(heap.add(QUEUE) for _ in range(4))]
    for one, after in pairwise(queues):
        heap.point(one, after)
    heap.point(device, queues[2])
    assert heap.roots() == [device]


def test_a_stray_pointer_does_not_take_one_of_many_equals_away():
    heap = Heap()
    devices = [heap.add(DEVICE, 512) for _ in range(8)]
    queues = [heap.add(QUEUE) for _ in devices]
    for device, queue in zip(devices, queues, strict=True):
        heap.point(device, queue)
        heap.point(queue, device)
    stranger = heap.add(NAME, 4096)
    heap.point(stranger, queues[0], at=8)
    heap.point(stranger, queues[1], at=16)
    assert heap.graph().root_of.tolist() == [*devices, *devices, stranger]
    heap.point(stranger, queues[2], at=24)  # three of eight: more than a few
    assert heap.roots() == [*devices[3:], stranger]


def test_head_of_a_list_is_no_stray_pointer():
    heap = Heap()
    device, *queues = [heap.add(DEVICE), *(heap.add(QUEUE) for _ in range(20))]
    alone = [heap.add(QUEUE) for _ in range(20)]
    for one, after in pairwise(queues):
        heap.point(one, after)
        heap.point(after, one, at=16)
    heap.point(device, queues[5])
    assert heap.roots() == [device, *alone]


def test_equals_that_a_third_joins_in_a_circle_are_roots_both():
    heap = Heap()
    one, other, between = heap.add(DEVICE, 512), heap.add(DEVICE, 512), heap.add(QUEUE)
    for device, at in ((one, 8), (other, 16)):
        heap.point(device, between)
        heap.point(between, device, at)
        for place in (16, 24):
            heap.point(device, heap.add(NAME), place)
    assert heap.roots() == [one, other]


def test_of_two_that_hold_each_other_the_larger_is_the_root_then_the_older():
    heap = Heap()
    one, other = heap.add(DEVICE, 64), heap.add(QUEUE, 128)
    heap.point(one, other)
    heap.point(other, one)
    assert heap.roots() == [other]
    heap.events[one] |= {"bytes_alloc": 128, "time_ns": 2000}
    assert heap.roots() == [other]
    heap.events[one]["time_ns"] = 1
    assert heap.roots() == [one]


def test_what_several_hold_hangs_on_the_nearest_then_on_the_larger():
    heap = Heap()
    device, queue, far, shared = heap.add(DEVICE), heap.add(QUEUE, 64), heap.add(4, 512), heap.add(NAME)
    between = heap.add(5)
    heap.point(device, shared)
    heap.point(queue, shared)
    heap.point(far, between)
    heap.point(between, shared)
    graph = heap.graph()
    assert graph.roots.tolist() == [device, queue, far]
    assert graph.root_of[shared] == device
    assert graph.held.tolist() == [1, 0, 1, 0, 0]


def test_what_is_referenced_does_not_hang_on_what_is_not():
    """The pointer is an old one: what it pointed to was freed, and its memory used again."""
    heap = Heap()
    device, entry = heap.add(DEVICE, 512), heap.add(NAME)
    heap.point(device, entry)
    for device_is, entry_is, roots in (
        (False, True, [device, entry]),
        (True, True, [device]),
        (False, False, [device]),
        (True, False, [device]),
    ):
        graph = object_graph(heap.rows, heap.words, referenced=np.array([device_is, entry_is]))
        assert graph.roots.tolist() == roots


def test_percpu_memory_is_held_by_its_offset_only():
    heap = Heap()
    device, counters = heap.add(DEVICE), heap.add(QUEUE, 64, kind=Kind.PERCPU, object=hide(0x3A0F8))
    heap.point(device, counters, inside=8)
    heap.words[counters][:] = hide(heap.address(device))
    assert heap.roots() == [device, counters]
    heap.point(device, counters)
    assert heap.roots() == [device]


def test_unreadable_objects_hold_nothing_but_are_held():
    heap = Heap()
    device, queue = heap.add(DEVICE), heap.add(QUEUE)
    heap.point(device, queue)
    heap.point(queue, device)
    heap.words[queue] = np.zeros(0, np.uint64)
    assert heap.graph().root_of.tolist() == [device, device]


@st.composite
def heaps(draw: st.DrawFn) -> Heap:
    heap = Heap()
    for _ in range(draw(st.integers(1, 12))):
        time_ns, size = draw(st.integers(1, 3)), draw(st.sampled_from((24, 33, 56, 130)))
        heap.add(draw(st.sampled_from((1, 1, 2, 3))), size, time_ns=time_ns)
    number = st.integers(0, len(heap.events) - 1)
    for holder, held, at, inside in draw(
        st.lists(st.tuples(number, number, st.sampled_from((0, 8, 16, 40, 56)), st.integers(-2, 60)), max_size=30)
    ):
        heap.point(holder, held, at, inside)
    return heap


@given(heaps())
@settings(max_examples=500, deadline=None)
@pytest.mark.thorough
def test_roots_are_those_found_the_plain_way(heap):
    assert heap.graph().root_of.tolist() == plain_owners(heap, plain_edges(heap))


@given(heaps())
@settings(max_examples=200, deadline=None)
@pytest.mark.thorough
def test_every_object_has_one_root_and_what_roots_hold_adds_up(heap):
    graph, rows = heap.graph(), heap.rows
    roots = graph.roots
    assert set(graph.root_of.tolist()) == set(roots.tolist())
    assert graph.held.sum() == rows.size - roots.size
    assert graph.held_bytes.sum() + rows["bytes_alloc"][roots].sum() == rows["bytes_alloc"].sum()
    assert set(graph.held.nonzero()[0].tolist()) <= set(roots.tolist())


@given(heaps(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
@pytest.mark.thorough
def test_order_of_the_objects_makes_no_difference(heap, random):
    order = list(range(len(heap.events)))
    random.shuffle(order)
    shuffled = object_graph(heap.rows[order], [heap.words[number] for number in order])
    expected = heap.graph()
    assert [order[root] for root in shuffled.root_of] == expected.root_of[order].tolist()
    assert shuffled.held.tolist() == expected.held[order].tolist()


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=60), st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_words_that_point_into_no_object_join_nothing(words, size):
    heap = Heap()
    for stack in (1, 2, 3):
        heap.add(stack, size)
    inside = [any(0 <= hide(word) - heap.address(n) < size for n in range(3)) for word in words]
    heap.words[1] = np.array([NOTHING if is_in else word for word, is_in in zip(words, inside, strict=True)], np.uint64)
    heap.words[1][::3] = heap.events[2]["object"] - size  # one past the end
    assert heap.roots() == [0, 1, 2]
