# SPDX-License-Identifier: GPL-2.0-or-later
"""Growing stacks by name: an interrupt's stack is one stack, whatever it came upon."""

from __future__ import annotations

import numpy as np
import pytest
from builders import START_NS, inside, kernel_names, module_image

from kleaktrace.core.events.loss import LossWindow
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind, hide
from kleaktrace.core.growth.detection import growing
from kleaktrace.core.growth.growing_stacks import StackDeduplicator, growth_evidence, kept_words, named_growing
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.call_stacks import NO_STACK
from kleaktrace.core.symbols.kernel_names import CacheName, KernelNames

SECONDS = 60
NOW_NS = START_NS + SECONDS * 1_000_000_000
KEYS = np.arange(1, 16, dtype=np.uint64)
# Without names, each stack is only the same as itself.
APART = StackDeduplicator(lambda key: NO_STACK)


def names_of_a_timer(keys: np.ndarray) -> KernelNames:
    """The same timer under each key, but come upon in different places."""
    names = kernel_names()
    names.symbols.module_loaded(module_image())
    for offset, key in enumerate(keys.tolist()):
        names.stacks.add(
            key, [inside("drv_work"), inside("handle_softirqs"), inside("kthread", 4 + offset), inside("core_alloc")]
        )
    return names


def leaking(keys: np.ndarray, context: Context = Context.SOFTIRQ) -> Ledger:
    """Two a second, by each key in turn, and none freed."""
    allocations = np.zeros(2 * SECONDS, ALLOCATION)
    allocations["sequence"] = np.arange(allocations.size) + 1
    allocations["object"] = [hide(0xFFFF888100000000 + 256 * number) for number in range(allocations.size)]
    allocations["time_ns"] = START_NS + np.arange(allocations.size) * 500_000_000
    allocations["stack"] = np.resize(keys, allocations.size)
    allocations["bytes_alloc"] = 256
    allocations["context"] = context
    allocations["comm"] = b"swapper/0"
    ledger = Ledger()
    ledger.apply(Batch(allocations, np.zeros(0, FREE)))
    return ledger


def test_what_interrupted_many_things_grows_once() -> None:
    ledger, names = leaking(KEYS), names_of_a_timer(KEYS)
    same = StackDeduplicator(names.stacks.get)
    assert growing(growth_evidence(ledger, APART, START_NS, NOW_NS)) == [], "each alone is too little"
    (found,) = growing(growth_evidence(ledger, same, START_NS, NOW_NS))
    assert (found.stack, found.outstanding, found.bytes) == (1, 120, 120 * 256)
    assert found.ci95[0] <= 512 <= found.ci95[1]
    (named,) = named_growing([found], same, ledger.outstanding(), names)
    assert [line.partition("+")[0] for line in named.lines()] == ["drv_work", "handle_softirqs"]
    assert (named.context, named.comm, named.cache) == ("softirq", "", "kmalloc-256")
    assert named.listed is None


@pytest.mark.parametrize("keys", [KEYS[:3], KEYS[:1]])
def test_stacks_with_names_of_their_own_are_judged_apart(keys: np.ndarray) -> None:
    ledger = leaking(keys)
    names = kernel_names()
    for number, key in enumerate(keys.tolist()):
        names.stacks.add(key, [inside("core_alloc", 4 + number), inside("kthread")])
    by_name = growing(growth_evidence(ledger, StackDeduplicator(names.stacks.get), START_NS, NOW_NS))
    assert len(by_name) == keys.size
    assert {one.outstanding for one in by_name} == {2 * SECONDS // keys.size}


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([(20, 3), (50, 5)], 1),
        ([(50, 9)], 0),
        ([(20, 5), (50, 5)], 1),
        ([(40, 100), (50, 1)], 0),
        ([(20, 100), (50, 1)], 1),
    ],
)
def test_a_few_lost_events_do_not_hide_a_leak_and_many_do(losses: list[tuple[int, int]], expected: int) -> None:
    """After the last one that is too many, 25 s are needed."""
    ledger = leaking(KEYS[:1])
    for second, events in losses:
        at_ns = START_NS + second * 1_000_000_000
        ledger.note_loss(LossWindow(at_ns - 1, at_ns, events))
    same = StackDeduplicator(names_of_a_timer(KEYS[:1]).stacks.get)
    assert len(growing(growth_evidence(ledger, same, START_NS, NOW_NS))) == expected


def test_each_of_them_counts_as_a_missed_free_of_every_stack() -> None:
    ledger, same = leaking(KEYS[:2]), StackDeduplicator(kernel_names().stacks.get)
    assert growth_evidence(ledger, same, START_NS, NOW_NS).implied_frees.tolist() == [0, 0]
    ledger.note_loss(LossWindow(START_NS, START_NS + 1, 100))
    ledger.note_loss(LossWindow(START_NS + 2, START_NS + 3, 8))
    evidence = growth_evidence(ledger, same, START_NS, NOW_NS)
    assert (evidence.implied_frees.tolist(), evidence.origin_ns) == ([8, 8], START_NS + 1)


@pytest.mark.parametrize(
    ("frames", "context", "comm"),
    [
        (("drv_work", "kthread"), "task", "swapper/0"),
        (
            ("drv_work", "handle_softirqs", "kthread"),
            "softirq",
            "",
        ),  # on PREEMPT_RT, where events say that it is a task
    ],
)
def test_a_task_has_a_name(frames: tuple[str, ...], context: str, comm: str) -> None:
    ledger, names = leaking(KEYS[:1], Context.TASK), kernel_names()
    names.symbols.module_loaded(module_image())
    names.stacks.add(1, [inside(frame) for frame in frames])
    same = StackDeduplicator(names.stacks.get)
    found = growing(growth_evidence(ledger, same, START_NS, NOW_NS))
    (named,) = named_growing(found, same, ledger.outstanding(), names)
    assert (named.context, named.comm) == (context, comm)


def test_stacks_without_names_stay_apart_and_none_at_all_is_no_stack() -> None:
    keys = np.array([0, 7, 8], np.uint64)
    ledger, names = leaking(keys), kernel_names()
    found = growing(growth_evidence(ledger, StackDeduplicator(names.stacks.get), START_NS, NOW_NS))
    assert {one.stack for one in found} == {7, 8}


def test_keys_that_come_later_join_their_stack() -> None:
    names = names_of_a_timer(KEYS)
    same = StackDeduplicator(names.stacks.get)
    assert same.numbers(KEYS[:2]).tolist() == [0, 0]
    assert same.numbers(KEYS).tolist() == [0] * KEYS.size
    assert same.keys_of_same_stack(3).tolist() == KEYS.tolist()
    assert same.keys_of_same_stack(99).size == 0


def test_an_empty_ledger_grows_nowhere() -> None:
    same = StackDeduplicator(kernel_names().stacks.get)
    assert growing(growth_evidence(Ledger(), same, START_NS, NOW_NS)) == []


def test_what_kmemleak_lists_of_it_is_counted() -> None:
    ledger, names = leaking(KEYS), names_of_a_timer(KEYS)
    same = StackDeduplicator(names.stacks.get)
    found = growing(growth_evidence(ledger, same, START_NS, NOW_NS))
    whole, other = names.stacks.get(5).lines(), names.stacks.get(5).lines()[1:]
    counts = [
        named_growing(found, same, ledger.outstanding(), names, listed)[0].listed
        for listed in ([], [other], [whole, other, whole])
    ]
    assert counts == [0, 0, 2]


def test_all_are_kept_on_purpose_or_none_and_only_as_many_as_may_be() -> None:
    names = kernel_names()
    names.caches[7] = CacheName(7, "skbuff_head_cache", 232, 256)
    rows = leaking(KEYS[:2]).outstanding()
    rows["kind"], rows["cache"] = Kind.CACHE, 7
    assert rows.size == 120
    assert kept_words(rows, names, 2).startswith("these go round in a list of each CPU's own")
    assert kept_words(rows, names, 1) == "", "of each call stack 60, of both more than 64"
    rows["cache"][0] = 8
    assert kept_words(rows, names, 2) == ""
