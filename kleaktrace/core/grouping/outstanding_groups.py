# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of outstanding allocations, grouped by what the reader asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import Interner, one_of_each
from kleaktrace.core.arrays.types import F64, U64, Index
from kleaktrace.core.events.records import Context, Rows, comm_text
from kleaktrace.core.grouping.group_labels import (
    INTERRUPTS,
    GroupBy,
    cache_label,
    interrupt_label,
    label,
    process_label,
)
from kleaktrace.core.ledger.tally import Tally, alike, comm_words, tally
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.kernel_names import KernelNames


@dataclass(frozen=True, slots=True)
class AllocationGroup:
    """Outstanding allocations that have the grouping in common.

    `label` names the group; `stack`, `cache`, `contexts` and `comm` are those of its allocations, several names joined
    by ", ". `oldest_ns` is when the oldest was allocated. `stack_keys` are the call stacks in it. reclaimable: the
    kernel takes all of it back by itself when memory is short (`KernelNames.reclaimable`).
    """

    label: str
    stack: Stack
    cache: str
    contexts: frozenset[Context]
    comm: str
    count: int
    bytes: int
    oldest_ns: int
    stack_keys: tuple[int, ...]
    reclaimable: bool = False

    @property
    def context(self) -> str:
        """The contexts in words, as the others."""
        return _join({_CONTEXT_NAMES[context] for context in self.contexts})


_MANY = 3
_CONTEXTS = {int(context): context for context in Context}
_CONTEXT_NAMES = {context: context.name.lower() for context in Context}


def _join(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_MANY]) + (f", … ({len(listed)})" if len(listed) > _MANY else "")


CgroupPath = Callable[[int], str]
"""Gives the path of a cgroup by its id."""


def group(rows: Rows, names: KernelNames, by: GroupBy = GroupBy.STACK) -> list[AllocationGroup]:
    """Group OUTSTANDING rows; the most bytes first."""
    return group_tally(tally(rows, by.by_process), names, by)


def group_tally(
    counted: Tally, names: KernelNames, by: GroupBy = GroupBy.STACK, cgroup_path: CgroupPath | None = None
) -> list[AllocationGroup]:
    """Group what was counted, by one of `OUTSTANDING_BY`; the most bytes first.

    By process or cgroup, it must have been counted so (`GroupBy.by_process`); without `cgroup_path`, cgroups go by
    their numbers.
    """
    return _grouped(counted, names, lambda part: group_label(part, by, cgroup_path), by)


def as_one(rows: Rows, names: KernelNames) -> AllocationGroup | None:
    """All OUTSTANDING rows as one group; None if there are none."""
    return next(iter(_grouped(tally(rows), names, lambda part: ("",), None)), None)


def telling_words(rows: Rows, by: GroupBy | None) -> tuple[U64, ...]:
    """What tells the groups of OUTSTANDING rows apart, besides what `alike` goes by."""
    match by:
        case GroupBy.COMM:
            return comm_words(rows)
        case GroupBy.PID:
            return (*comm_words(rows), rows["tgid"].astype(np.uint64))
        case GroupBy.CGROUP:
            return (np.ascontiguousarray(rows["cgroup"]),)
        case _:
            return ()


def _grouped(
    counted: Tally, names: KernelNames, label_of: Callable[[Part], GroupLabel], by: GroupBy | None
) -> list[AllocationGroup]:
    # Who allocated seldom matters to a label, and there are many of them: they are put in words once a group.
    kinds = alike(counted.rows, *telling_words(counted.rows, by))
    parts = described(counted.rows[one_of_each(kinds)], names, with_text=by is GroupBy.STACK)
    groups: dict[GroupLabel, list[Part]] = {}
    number_of: dict[GroupLabel, int] = {}
    group_of_part = []
    for part in parts:
        name = label_of(part)
        group_of_part.append(number_of.setdefault(name, len(number_of)))
        groups.setdefault(name, []).append(part)
    group_of = np.array(group_of_part, np.intp).take(kinds)
    columns = zip(
        groups.items(),
        _sums(group_of, counted.counts).tolist(),
        _sums(group_of, counted.bytes).tolist(),
        _least(group_of, counted.oldest_ns).tolist(),
        _comms(group_of, counted.rows),
        strict=True,
    )
    found = [
        AllocationGroup(
            label=name[0],
            stack=members[0].stack,
            cache=_join({part.cache for part in members}),
            contexts=frozenset(part.context for part in members),
            comm=_join(comms),
            count=int(count),
            bytes=int(size),
            oldest_ns=oldest_ns,
            stack_keys=tuple(sorted({part.key for part in members})),
            reclaimable=all(part.reclaimable for part in members),
        )
        for (name, members), count, size, oldest_ns, comms in columns
    ]
    return sorted(found, key=lambda g: (-g.bytes, -g.count, g.label))


def _sums(numbers: Index, values: npt.NDArray[Any]) -> F64:
    """Sums of the values of each number; exact up to 2**53."""
    return np.bincount(numbers, values.astype(np.float64)).astype(np.float64)


def _least(numbers: Index, values: U64) -> U64:
    """The least value of each number."""
    least = np.full(int(numbers.max(initial=-1)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, numbers, values)
    return least


def _comms(group_of: Index, rows: Rows) -> list[set[str]]:
    """The comms in each group."""
    pairs = Interner(words=3).intern(group_of.view(np.uint64), *comm_words(rows))
    one_of = one_of_each(pairs)
    found: list[set[str]] = [set() for _ in range(int(group_of.max(initial=-1)) + 1)]
    for number, comm in zip(group_of[one_of].tolist(), rows["comm"][one_of].tolist(), strict=True):
        found[number].add(comm_text(comm))
    return found


class Part(NamedTuple):
    """What of a row is shown, mostly in words. `text` is that of the call stack, if it was asked for."""

    key: int
    stack: Stack
    text: str
    cache: str
    context: Context
    comm: str
    pid: int
    cgroup: int
    reclaimable: bool


def described(rows: Rows, names: KernelNames, with_text: bool = False) -> list[Part]:
    """OUTSTANDING rows in words."""
    fields = ("stack", "kind", "cache", "bytes_alloc", "context", "comm", "tgid", "cgroup")
    columns = (*(rows[name].tolist() for name in fields), names.reclaimable(rows).tolist())
    parts = []
    for key, kind, slab_cache, size, context, comm, pid, cgroup, reclaimable in zip(*columns, strict=True):
        stack = names.stacks.get(key)
        text = names.stacks.text(key) if with_text else ""
        known = _CONTEXTS[context] if context != Context.UNKNOWN else stack.context
        cache = names.cache(kind, slab_cache, size)
        parts.append(Part(key, stack, text, cache, known, comm_text(comm), pid, cgroup, reclaimable))
    return parts


def _context(part: Part) -> str:
    """What the stack tells, unless the event knows better."""
    agree = part.stack.frames and part.stack.context is part.context
    return label(part.stack, GroupBy.CONTEXT) if agree else _CONTEXT_NAMES[part.context]


GroupLabel = tuple[str, ...]
"""What the rows of a group have in common; first what names it."""


def group_label(part: Part, by: GroupBy, cgroup_path: CgroupPath | None = None) -> GroupLabel:
    """The group of a row, by one of `OUTSTANDING_BY`. What an interrupt allocates is not its process's, as in rates."""
    if by is GroupBy.STACK:
        return part.text, part.cache, _CONTEXT_NAMES[part.context]
    if by.by_task and part.context in INTERRUPTS:
        return (interrupt_label(part.context),)
    if by is GroupBy.CGROUP and cgroup_path is not None:
        return (cgroup_path(part.cgroup),)
    return (_LABELS[by](part),)


_LABELS: dict[GroupBy, Callable[[Part], str]] = {
    GroupBy.CACHE: lambda part: cache_label(part.cache),
    GroupBy.COMM: lambda part: part.comm,
    GroupBy.PID: lambda part: process_label(part.pid, part.comm),
    GroupBy.CGROUP: lambda part: f"(cgroup {part.cgroup})",
    GroupBy.CONTEXT: _context,
    GroupBy.MODULE: lambda part: label(part.stack, GroupBy.MODULE),
    GroupBy.REQUESTER: lambda part: label(part.stack, GroupBy.REQUESTER),
}
