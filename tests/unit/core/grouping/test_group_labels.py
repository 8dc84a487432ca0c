# SPDX-License-Identifier: GPL-2.0-or-later
"""Whom an allocation is counted for, told from its call stack."""

from __future__ import annotations

import numpy as np
import pytest

from kleaktrace.core.events.records import Context
from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL, GroupBy, StackLabels, label
from kleaktrace.core.symbols.call_stacks import NO_STACK, Stack, context_from
from kleaktrace.core.symbols.symbol_table import Frame

WORK = "drv_alloc[drv] drv_work[drv] process_one_work worker_thread kthread"
TIMER = "drv_alloc[drv] drv_timer[drv] call_timer_fn run_timer_softirq handle_softirqs irq_exit_rcu"
IRQ = "drv_alloc[drv] drv_irq[drv] __handle_irq_event_percpu handle_irq_event common_interrupt"
HRTIMER = "drv_alloc[drv] hrtimer_interrupt __sysvec_apic_timer_interrupt sysvec_apic_timer_interrupt"
TASK = "core_alloc other_get[other] do_syscall_64"
IDLE = " do_idle idle_get[idle] process_one_work"


def stack(text: str) -> Stack:
    """Of frames like `name[module]`; ? has no name."""
    frames = []
    for word in text.split():
        name, _, module = word.rstrip("]").partition("[")
        frames.append(Frame(0x1234, None if name == "?" else name, 0x10, 0x20, module or None))
    return Stack(tuple(frames), context_from(frames))


@pytest.mark.parametrize(
    ("by", "frames", "group"),
    [
        (GroupBy.CONTEXT, TASK, "task"),
        (GroupBy.CONTEXT, WORK, "kworker: drv_work [drv]"),
        (GroupBy.CONTEXT, TIMER, "softirq: drv_timer [drv]"),
        (GroupBy.CONTEXT, "drv_alloc run_timer_softirq handle_softirqs", "softirq: run_timer_softirq"),
        (GroupBy.CONTEXT, "drv_alloc handle_softirqs.isra.0", "softirq: drv_alloc"),
        (GroupBy.CONTEXT, "handle_softirqs irq_exit_rcu", "softirq: handle_softirqs"),
        (GroupBy.CONTEXT, IRQ, "hardirq: drv_irq [drv]"),
        (GroupBy.CONTEXT, HRTIMER, "hardirq: sysvec_apic_timer_interrupt"),
        (GroupBy.CONTEXT, "f g[drv] __hrtimer_run_queues hrtimer_interrupt sysvec_apic", "hardirq: g [drv]"),
        (GroupBy.CONTEXT, "f g call_timer_fn do_syscall_64", "task"),
        (GroupBy.CONTEXT, "drv_nmi exc_nmi", "nmi"),
        (GroupBy.CONTEXT, "core_alloc ? process_one_work", "kworker: 0x1234"),
        (GroupBy.KWORKER, WORK, "drv_work [drv]"),
        (GroupBy.KWORKER, TASK, "(no kworker)"),
        (GroupBy.REQUESTER, "ext4_alloc_inode alloc_inode new_inode " + TASK, "core_alloc"),
        (GroupBy.REQUESTER, "devm_kmalloc drv_probe.isra.0[drv]", "drv_probe [drv]"),
        (GroupBy.REQUESTER, "alloc_inode new_inode", "alloc_inode"),
        (GroupBy.REQUESTER, "? drv_probe[drv]", "unnamed code at 0x1234"),
        (GroupBy.MODULE, TASK, "other"),
        (GroupBy.MODULE, "core_alloc", "(kernel)"),
        (GroupBy.STACK, "core_alloc other_get[other]", "core_alloc+0x10/0x20\nother_get+0x10/0x20 [other]"),
    ],
)
def test_groups(by: GroupBy, frames: str, group: str) -> None:
    assert label(stack(frames), by) == group


@pytest.mark.parametrize("frames", [TIMER, IRQ, HRTIMER])
@pytest.mark.parametrize("by", [by for by in GroupBy if by.by_stack])
def test_what_was_interrupted_is_not_to_blame(by: GroupBy, frames: str) -> None:
    assert label(stack(frames + IDLE), by) == label(stack(frames), by)
    assert "idle" not in label(stack(frames + IDLE), by)


def test_an_interrupted_kworker_is_no_kworker() -> None:
    assert label(stack(HRTIMER + " " + WORK), GroupBy.KWORKER) == "(no kworker)"
    softirq_work = "drv_alloc drv_bh process_one_work bh_worker tasklet_action handle_softirqs"
    assert label(stack(softirq_work), GroupBy.CONTEXT) == "softirq: tasklet_action"
    assert label(stack(softirq_work), GroupBy.KWORKER) == "(no kworker)"


@pytest.mark.parametrize("by", [by for by in GroupBy if by.by_stack])
def test_without_a_stack_there_is_one_group(by: GroupBy) -> None:
    assert label(NO_STACK, by) == NO_STACK_LABEL


def test_labels_keep_their_place_and_are_named_once() -> None:
    asked: list[int] = []

    def named(key: int) -> Stack:
        asked.append(key)
        return Stack((Frame(1, f"f{key % 2}", 0, 1),), Context.TASK)

    labels = StackLabels(GroupBy.STACK, named)
    assert list(labels.of(np.array([4, 5], np.uint64))) == ["f0+0x0/0x1", "f1+0x0/0x1"]
    assert list(labels.of(np.array([4, 5, 6], np.uint64))) == ["f0+0x0/0x1", "f1+0x0/0x1", "f0+0x0/0x1"]
    assert asked == [4, 5, 6]
