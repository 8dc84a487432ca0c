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
from kleaktrace.core.events.records import Context, Rows, comm_text, context_told
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
    return _grouped(counted, names, lambda row: group_label(row, by, cgroup_path), by)


def as_one(rows: Rows, names: KernelNames) -> AllocationGroup | None:
    """All OUTSTANDING rows as one group; None if there are none."""
    return next(iter(_grouped(tally(rows), names, lambda row: ("",), None)), None)


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
    counted: Tally, names: KernelNames, label_of: Callable[[NamedRow], GroupLabel], by: GroupBy | None
) -> list[AllocationGroup]:
    # Who allocated seldom matters to a label, and there are many of them: they are put in words once a group.
    kinds = alike(counted.rows, *telling_words(counted.rows, by))
    named = named_rows(counted.rows[one_of_each(kinds)], names, with_text=by is GroupBy.STACK)
    groups: dict[GroupLabel, list[NamedRow]] = {}
    number_of: dict[GroupLabel, int] = {}
    group_of_part = []
    for row in named:
        name = label_of(row)
        group_of_part.append(number_of.setdefault(name, len(number_of)))
        groups.setdefault(name, []).append(row)
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
            cache=_join({row.cache for row in members}),
            contexts=frozenset(row.context for row in members),
            comm=_join(comms),
            count=int(count),
            bytes=int(size),
            oldest_ns=oldest_ns,
            stack_keys=tuple(sorted({row.key for row in members})),
            reclaimable=all(row.reclaimable for row in members),
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


class NamedRow(NamedTuple):
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


def named_rows(rows: Rows, names: KernelNames, with_text: bool = False) -> list[NamedRow]:
    """OUTSTANDING rows in words."""
    fields = ("stack", "kind", "cache", "bytes_alloc", "context", "comm", "tgid", "cgroup")
    columns = (*(rows[name].tolist() for name in fields), names.reclaimable(rows).tolist())
    named = []
    for key, kind, slab_cache, size, context, comm, pid, cgroup, reclaimable in zip(*columns, strict=True):
        stack = names.stacks.get(key)
        text = names.stacks.text(key) if with_text else ""
        known = context_told(context, stack.context)
        cache = names.cache(kind, slab_cache, size)
        named.append(NamedRow(key, stack, text, cache, known, comm_text(comm), pid, cgroup, reclaimable))
    return named


def _context(row: NamedRow) -> str:
    """What the stack tells, unless the event knows better."""
    agree = row.stack.frames and row.stack.context is row.context
    return label(row.stack, GroupBy.CONTEXT) if agree else _CONTEXT_NAMES[row.context]


GroupLabel = tuple[str, ...]
"""What the rows of a group have in common; first what names it."""


def group_label(row: NamedRow, by: GroupBy, cgroup_path: CgroupPath | None = None) -> GroupLabel:
    """The group of a row, by one of `OUTSTANDING_BY`. What an interrupt allocates is not its process's, as in rates."""
    if by is GroupBy.STACK:
        return row.text, row.cache, _CONTEXT_NAMES[row.context]
    if by.by_task and row.context in INTERRUPTS:
        return (interrupt_label(row.context),)
    if by is GroupBy.CGROUP and cgroup_path is not None:
        return (cgroup_path(row.cgroup),)
    return (_LABELS[by](row),)


_LABELS: dict[GroupBy, Callable[[NamedRow], str]] = {
    GroupBy.CACHE: lambda row: cache_label(row.cache),
    GroupBy.COMM: lambda row: row.comm,
    GroupBy.PID: lambda row: process_label(row.pid, row.comm),
    GroupBy.CGROUP: lambda row: f"(cgroup {row.cgroup})",
    GroupBy.CONTEXT: _context,
    GroupBy.MODULE: lambda row: label(row.stack, GroupBy.MODULE),
    GroupBy.REQUESTER: lambda row: label(row.stack, GroupBy.REQUESTER),
}
