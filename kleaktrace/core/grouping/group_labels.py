# SPDX-License-Identifier: GPL-2.0-or-later
"""Whom allocations are counted for: one answer for what is outstanding and for rates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from kleaktrace.core.events.records import Context
from kleaktrace.core.symbols.call_stacks import Stack, requester_words
from kleaktrace.core.symbols.symbol_table import Frame


class GroupBy(StrEnum):
    """What to group by. Told from the call stack, or (the last four) from the event itself."""

    STACK = "stack"
    REQUESTER = "requester"
    CONTEXT = "context"
    KWORKER = "kworker"
    MODULE = "module"
    COMM = "comm"
    PID = "pid"
    CGROUP = "cgroup"
    CACHE = "cache"

    @property
    def by_stack(self) -> bool:
        """Whether the call stack tells the group."""
        return self in _LABELS

    @property
    def by_task(self) -> bool:
        """Whether the task tells the group. What an interrupt allocates, on whatever task it came upon, is not its."""
        return self is GroupBy.COMM or self.by_process

    @property
    def by_process(self) -> bool:
        """Whether it must be known which process allocated, or in which cgroup (`Ledger.tally`)."""
        return self in (GroupBy.PID, GroupBy.CGROUP)


OUTSTANDING_BY = (
    *(GroupBy.STACK, GroupBy.REQUESTER, GroupBy.CACHE, GroupBy.COMM, GroupBy.PID, GroupBy.CGROUP),
    *(GroupBy.MODULE, GroupBy.CONTEXT),
)
"""What an outstanding allocation tells without its event."""

NO_STACK_LABEL = "(no stack could be taken)"
INTERRUPTS = (Context.SOFTIRQ, Context.HARDIRQ, Context.NMI)

# kernel/workqueue.c calls the work function, kernel/softirq.c the softirq's action (handle_softirqs since v6.10),
# kernel/irq/{handle,chip}.c the handler. Many actions and handlers only call what was registered with them:
# kernel/time/{timer,hrtimer}.c, kernel/softirq.c, kernel/rcu/tree.c, net/core/dev.c.
_CALLBACKS = re.compile(r"^(call_timer_fn|__hrtimer_run_queues|tasklet_action_common|rcu_do_batch|__napi_poll)(\..*)?$")
_WORK = re.compile(r"^process_one_work(\..*)?$")
_SOFTIRQ = re.compile(r"^(handle_softirqs|__do_softirq)(\..*)?$")
_HANDLERS = re.compile(r"^(__handle_irq_event_percpu|handle_percpu_devid_irq)(\..*)?$")


def interrupt_label(context: Context) -> str:
    """The name of the group, by task, of what an interrupt allocated."""
    return f"({context.name.lower()})"


def process_label(pid: int, comm: str) -> str:
    """The name of a process's group."""
    return f"{pid} ({comm})"


def cache_label(name: str) -> str:
    """The name of a cache's group. name: empty if nobody knows it."""
    return name or "(a cache without a name)"


def label(stack: Stack, by: GroupBy) -> str:
    """The name of the group that this stack belongs to."""
    return _LABELS[by](stack) if stack.frames else NO_STACK_LABEL


def _stack(stack: Stack) -> str:
    return "\n".join(str(frame) for frame in stack.own_frames)


def _context(stack: Stack) -> str:
    """What ran: a task, a work function, or what the softirq or interrupt was for, as far as the stack tells."""
    frames = stack.own_frames
    callback = _called_by(_CALLBACKS, frames, "")
    match stack.context:
        case Context.SOFTIRQ:
            return f"softirq: {callback or _called_by(_SOFTIRQ, frames)}"
        case Context.HARDIRQ:
            return f"hardirq: {callback or _called_by(_HANDLERS, frames)}"
        case Context.NMI:
            return "nmi"
        case _:
            work = _called_by(_WORK, frames, "")
            return f"kworker: {work}" if work else "task"


def _kworker(stack: Stack) -> str:
    work = _called_by(_WORK, stack.own_frames, "") if stack.context is Context.TASK else ""
    return work or "(no kworker)"


def _module(stack: Stack) -> str:
    """The module nearest to the allocation, or the kernel itself."""
    return stack.module or "(kernel)"


def _called_by(caller: re.Pattern[str], frames: Sequence[Frame], otherwise: str | None = None) -> str:
    """The function that the caller has called; if it is not there, where the interrupt came in."""
    for inner, outer in itertools.pairwise(frames):
        if outer.name and caller.match(outer.name):
            return _function(inner)
    return _function(frames[-1]) if otherwise is None else otherwise


def _function(frame: Frame) -> str:
    name = (frame.name or f"{frame.address:#x}").removeprefix("__")
    return f"{name} [{frame.module}]" if frame.module else name


_LABELS: dict[GroupBy, Callable[[Stack], str]] = {
    GroupBy.STACK: _stack,
    GroupBy.REQUESTER: lambda stack: requester_words([str(frame) for frame in stack.own_frames]),
    GroupBy.CONTEXT: _context,
    GroupBy.KWORKER: _kworker,
    GroupBy.MODULE: _module,
}


class StackLabels:
    """The groups of all stacks of a ledger, which keeps them in place. Memory: 8 bytes a stack, and the names."""

    def __init__(self, by: GroupBy, stack: Callable[[int], Stack]) -> None:
        self._by = by
        self._stack = stack
        self._labels: list[str] = []
        self._names: dict[str, str] = {}

    def of(self, keys: npt.NDArray[np.uint64]) -> Sequence[str]:
        """The group of each stack. Later keys only follow earlier ones."""
        for key in keys[len(self._labels) :].tolist():
            name = label(self._stack(key), self._by)
            self._labels.append(self._names.setdefault(name, name))
        return self._labels[: keys.size]
