# SPDX-License-Identifier: GPL-2.0-or-later
"""Every call stack of a recording, with what it holds, how much it allocated, and what the verdicts say of it.

A stack here is what StackDeduplicator takes for one: an interrupt's stack ends where the interrupt came in, so that it
does not count as many stacks as there are places to be interrupted at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import F64, U64, Index
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL
from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.overview.frame_tree import FrameTree
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.symbol_table import Frame

NOT_SEEN = -1
"""Of a suspect that belongs to no stack of the recording."""

_NO_STACK = (Frame(0, NO_STACK_LABEL),)


@dataclass(frozen=True, slots=True)
class Suspected:
    """How much of what each stack holds is suspected; arrays run parallel to the stacks.

    growing: whether the stack keeps growing and nothing explains it.
    """

    confirmed: U64
    confirmed_bytes: U64
    undecided: U64
    undecided_bytes: U64
    growing: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StackOverview:
    """Call stacks; arrays and lists run parallel. First what is confirmed, undecided or growing, then by bytes held.

    leaves: of each stack the node of its innermost frame. requesters_at: how many frames further out than that is the
    one that asked for the memory (`Stack.requester`). objects, bytes: what is outstanding, as allocated.
    allocations, bytes_allocated: of the whole session. freed: seen or implied. oldest_s: age of the oldest that is
    outstanding; 0 if nothing is. caches, contexts, comms: of what is outstanding. keys: in the ledger.
    of_suspects: the stack of each suspect of the report, or `NOT_SEEN`.
    """

    tree: FrameTree
    leaves: Index
    requesters_at: Index
    objects: U64
    bytes: U64
    allocations: U64
    bytes_allocated: U64
    freed: U64
    oldest_s: F64
    caches: Sequence[str]
    contexts: Sequence[str]
    comms: Sequence[str]
    suspected: Suspected
    keys: Sequence[tuple[int, ...]]
    of_suspects: Sequence[int]

    @property
    def count(self) -> int:
        """How many stacks there are."""
        return len(self.keys)


def stack_overview(recording: Recording, report: Report) -> StackOverview:
    """Put side by side what the ledger counted and what the report says. Some 10 µs a stack."""
    counted = recording.ledger.snapshot()
    stacks = [recording.names.stacks.get(key) for key in counted.stacks.tolist()]
    tree, numbers, leaves, requesters_at = _numbered(stacks)
    count = len(leaves)

    def summed(values: U64) -> U64:
        # bincount adds up doubles: exact up to 2**53, which is 8 PiB.
        return np.bincount(numbers, values.astype(np.float64), count).astype(np.uint64)

    number_of_key = dict(zip(counted.stacks.tolist(), numbers.tolist(), strict=True))
    keys: list[list[int]] = [[] for _ in range(count)]
    for key, number in number_of_key.items():
        keys[number].append(key)
    of_suspects = _of_suspects(report.suspects, stacks, numbers)
    growing = [number_of_key.get(one.growing.stack, NOT_SEEN) for one in report.growing]
    suspected = _suspected(report.suspects, of_suspects, growing, count)
    objects, size = summed(counted.outstanding), summed(counted.outstanding_bytes)
    allocations = summed(counted.allocations)
    held = _held(report.outstanding, number_of_key, report.now_ns, count)
    order = np.lexsort(
        (-leaves, allocations, size, suspected.growing, suspected.undecided_bytes, suspected.confirmed_bytes)
    )[::-1]
    place = np.full(count + 1, NOT_SEEN, np.intp)  # that of NOT_SEEN is the last
    place[order] = np.arange(count)
    return StackOverview(
        tree=tree,
        leaves=leaves[order],
        requesters_at=requesters_at[order],
        objects=objects[order],
        bytes=size[order],
        allocations=allocations[order],
        bytes_allocated=summed(counted.bytes_allocated)[order],
        freed=summed(counted.frees + counted.implied_frees)[order],
        oldest_s=held.oldest_s[order],
        caches=[_joined(held.caches[number]) for number in order.tolist()],
        contexts=[_joined(held.contexts[number]) for number in order.tolist()],
        comms=[_joined(held.comms[number]) for number in order.tolist()],
        suspected=Suspected(
            suspected.confirmed[order],
            suspected.confirmed_bytes[order],
            suspected.undecided[order],
            suspected.undecided_bytes[order],
            suspected.growing[order],
        ),
        keys=[tuple(keys[number]) for number in order.tolist()],
        of_suspects=[int(place[number]) for number in of_suspects],
    )


def _numbered(stacks: Sequence[Stack]) -> tuple[FrameTree, Index, Index, Index]:
    """The frames of all stacks as a tree; which stacks are the same, by number; of each number leaf and requester."""
    tree, number_of_leaf, requesters_at = FrameTree(), dict[int, int](), list[int]()
    numbers = np.zeros(len(stacks), np.intp)
    for place, stack in enumerate(stacks):
        own = stack.own_frames or _NO_STACK
        leaf = tree.add(reversed(own))
        if leaf not in number_of_leaf:
            number_of_leaf[leaf] = len(number_of_leaf)
            requesters_at.append(own.index(stack.requester) if stack.requester in own else 0)
        numbers[place] = number_of_leaf[leaf]
    return tree, numbers, np.array(list(number_of_leaf), np.intp), np.array(requesters_at, np.intp)


def _of_suspects(suspects: Sequence[JudgedSuspect], stacks: Sequence[Stack], numbers: Index) -> list[int]:
    """The number of each suspect's stack, by its text; `NOT_SEEN` if no stack reads so."""
    wanted = {suspect.stack for suspect in suspects if suspect.in_window}
    innermost = {stack[0] for stack in wanted if stack}
    found: dict[tuple[str, ...], int] = {}
    for stack, number in zip(stacks, numbers.tolist(), strict=True):
        # Putting all stacks into words would take ten times as long.
        if stack.frames and str(stack.frames[0]) in innermost:
            found.setdefault(tuple(stack.lines()), number)
    return [found.get(suspect.stack, NOT_SEEN) if suspect.in_window else NOT_SEEN for suspect in suspects]


def _suspected(
    suspects: Sequence[JudgedSuspect], numbers: Sequence[int], growing: Sequence[int], count: int
) -> Suspected:
    columns = {verdict: np.zeros((2, count), np.uint64) for verdict in (Verdict.CONFIRMED, Verdict.UNDECIDED)}
    for suspect, number in zip(suspects, numbers, strict=True):
        if number != NOT_SEEN and suspect.verdict in columns:
            columns[suspect.verdict][:, number] += np.array([1, suspect.bytes_alloc or suspect.size], np.uint64)
    grows = np.zeros(count, np.bool_)
    grows[[number for number in growing if number != NOT_SEEN]] = True
    confirmed, undecided = columns[Verdict.CONFIRMED], columns[Verdict.UNDECIDED]
    return Suspected(confirmed[0], confirmed[1], undecided[0], undecided[1], grows)


@dataclass(slots=True)
class _Held:
    oldest_s: F64
    caches: list[tuple[str, ...]]
    contexts: list[tuple[str, ...]]
    comms: list[tuple[str, ...]]


def _held(groups: Sequence[AllocationGroup], number_of_key: dict[int, int], now_ns: int, count: int) -> _Held:
    """What the outstanding allocations of each stack are."""
    held = _Held(np.zeros(count), [()] * count, [()] * count, [()] * count)
    for group in groups:
        number = next((number_of_key[key] for key in group.stack_keys if key in number_of_key), NOT_SEEN)
        if number == NOT_SEEN:
            continue
        held.oldest_s[number] = max(held.oldest_s[number], (now_ns - group.oldest_ns) / 1e9)
        held.caches[number] += (group.cache,)
        held.contexts[number] += (group.context,)
        held.comms[number] += (group.comm,)
    return held


_MANY = 4


def _joined(names: tuple[str, ...]) -> str:
    """Several names as one, each once."""
    distinct = list(dict.fromkeys(filter(None, names)))
    return ", ".join(distinct[:_MANY]) + (", …" if len(distinct) > _MANY else "")
