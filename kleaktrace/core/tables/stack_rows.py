# SPDX-License-Identifier: GPL-2.0-or-later
"""Every call stack of a recording with its counters and its verdict, worked out once for whoever needs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.leaked_objects.leaks import stack_key
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.symbols.call_stacks import NO_STACK, Stack


class StackVerdict(StrEnum):
    """The worst that is known of what a stack allocated. Alive: nothing speaks against it."""

    CONFIRMED = "confirmed"
    UNDECIDED = "undecided"
    GROWING = "growing"
    ALIVE = "alive"


@dataclass(frozen=True, slots=True)
class StackRow:
    """One call stack. Stacks of the same names are the same; all whose stack was lost are one row, without frames.

    key: the same across boots and builds, as in the JSON document. caches, contexts: of what is outstanding, ascending.
    Bytes are as allocated. oldest_ns: when the oldest outstanding one was allocated (CLOCK_MONOTONIC); None: none is.
    The counts of allocations and frees are those of the whole window. ledger_keys: all keys that the ledger has for it.
    """

    key: str
    stack: Stack
    caches: tuple[str, ...]
    contexts: tuple[str, ...]
    outstanding: int
    outstanding_bytes: int
    oldest_ns: int | None
    allocations: int
    allocated_bytes: int
    frees: int
    implied_frees: int
    verdict: StackVerdict
    ledger_keys: tuple[int, ...]


class _Counts(NamedTuple):
    """The ledger's counters of one key of a stack."""

    ledger_key: int
    allocations: int
    allocated_bytes: int
    frees: int
    implied_frees: int


@dataclass(frozen=True, slots=True)
class _Books:
    """What is known of one stack, piece by piece."""

    stack: Stack
    counts: list[_Counts] = field(default_factory=list)
    groups: list[AllocationGroup] = field(default_factory=list)


def stack_rows(recording: Recording, report: Report) -> list[StackRow]:
    """All stacks that allocated anything; `report` is one of this recording."""
    stacks, snapshot = recording.names.stacks, recording.ledger.snapshot()
    books: dict[str, _Books] = {}

    def of(key: int) -> _Books:
        text = stacks.text(key)  # which is kept: the report asked for it
        stack = stacks.get(key)
        return books.setdefault(text or "\n".join(stack.lines()), _Books(stack))

    counters = (snapshot.allocations, snapshot.bytes_allocated, snapshot.frees, snapshot.implied_frees)
    columns = (column.tolist() for column in (snapshot.stacks, *counters))
    for key, *counts in zip(*columns, strict=True):
        if counts[0]:  # all of its events may have been taken back
            of(key).counts.append(_Counts(key, *counts))
    for group in report.outstanding:
        of(group.stack_keys[0]).groups.append(group)
    verdicts = _Verdicts(report)
    rows = [_row(one, verdicts) for one in books.values()]
    return sorted(rows, key=lambda row: (-row.outstanding_bytes, -row.allocated_bytes, row.key))


def _row(books: _Books, verdicts: _Verdicts) -> StackRow:
    counts, groups, lines = books.counts, books.groups, tuple(books.stack.lines())
    return StackRow(
        key=stack_key(lines),
        stack=books.stack,
        caches=tuple(sorted({group.cache for group in groups} - {""})),
        contexts=tuple(sorted({group.context for group in groups})),
        outstanding=sum(group.count for group in groups),
        outstanding_bytes=sum(group.bytes for group in groups),
        oldest_ns=min((group.oldest_ns for group in groups), default=None),
        allocations=sum(one.allocations for one in counts),
        allocated_bytes=sum(one.allocated_bytes for one in counts),
        frees=sum(one.frees for one in counts),
        implied_frees=sum(one.implied_frees for one in counts),
        verdict=verdicts.of(lines, books.stack),
        ledger_keys=tuple(one.ledger_key for one in counts),
    )


class _Verdicts:
    """What suspects and growth say of call stacks."""

    def __init__(self, report: Report) -> None:
        suspects = report.suspects
        self._confirmed = {s.stack for s in suspects if s.verdict is Verdict.CONFIRMED}
        self._undecided = {s.stack for s in suspects if s.verdict is Verdict.UNDECIDED and s.counts_against_clean}
        self._growing = {tuple(one.lines()) for one in report.growing}

    def of(self, lines: tuple[str, ...], stack: Stack) -> StackVerdict:
        if stack is NO_STACK:
            return StackVerdict.ALIVE  # many stacks in one: what is said of one is not said of the others
        if lines in self._confirmed:
            return StackVerdict.CONFIRMED
        if lines in self._undecided:
            return StackVerdict.UNDECIDED
        grows = bool(self._growing) and tuple(map(str, stack.own_frames)) in self._growing
        return StackVerdict.GROWING if grows else StackVerdict.ALIVE
