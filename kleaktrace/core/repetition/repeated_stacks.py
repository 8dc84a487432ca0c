# SPDX-License-Identifier: GPL-2.0-or-later
"""What each call stack left behind in each round, and what that says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.events.records import may_be_task
from kleaktrace.core.evidence.evidence import Evidence
from kleaktrace.core.evidence.rounds import RoundSeries, RoundSource
from kleaktrace.core.evidence.suspect_cases import OutstandingAllocation
from kleaktrace.core.growth.growing_stacks import StackDeduplicator, of_books
from kleaktrace.core.repetition.sign_test import ANY, ENOUGH, GONE, Counts, Course, Repetition, repetition, warm_up
from kleaktrace.core.symbols.call_stacks import Stack


@dataclass(frozen=True, slots=True)
class StackRounds:
    """What one call stack left behind in the rounds of a series."""

    series: RoundSeries
    left: Counts
    """Objects by round, the warm-up's too."""
    repetition: Repetition
    module_gone: bool
    """Whether a module that it passes through was gone at the end of each round."""

    @property
    def course(self) -> Course:
        """How it goes on."""
        return self.repetition.course

    @property
    def is_bounded(self) -> bool:
        """Whether it is not growing: the later rounds left none, save perhaps the last, whose the next one frees.

        It says nothing of the few that the first ones left: a module may still be there that they belong to.
        """
        between = self.left[self.left.size // 2 : -1]
        pauses = self.course is Course.UNCLEAR and self.repetition.total >= ENOUGH and not between.any()
        return pauses or self.course in (Course.LEVELS_OFF, Course.PENDING)

    def round_of(self, time_ns: int) -> int | None:
        """The round (from 0) of what was allocated then; None: it was in none."""
        place = int(np.searchsorted(np.array(self.series.edges, np.uint64), np.uint64(time_ns), side="right")) - 1
        return place if 0 <= place < self.series.count else None

    @property
    def first_left_ns(self) -> int:
        """When the first round began that left something behind."""
        return self.series.edges[int(np.flatnonzero(self.left)[0])]

    def is_certain(self, number: int) -> bool:
        """Whether all that a round left behind belongs to what it leaves every time.

        In the first rounds there may be more, which a cache keeps; in the last what is still to be freed, and in those
        before it the rest of what a cache has that keeps the youngest.
        """
        first, last = warm_up(self.left.size), self.left.size - 1
        middle = (first + last + 1) // 2
        if first <= number < middle:
            return True
        usual = self.left[first : last if number < first else middle]
        return int(self.left[number]) <= int(usual.max(initial=0))

    def is_least(self, number: int) -> bool:
        """Whether a round left no more behind than any does: then nothing of it is anything else."""
        between = self.left[warm_up(self.left.size) : -1]
        return between.size > 0 and int(self.left[number]) <= int(between.min())


class RepeatedStacks:
    """The call stacks that left something behind, against the rounds of each series; worked out when first asked for.

    What differs only in what an interrupt came upon is one stack.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._found: dict[int, StackRounds] = {}
        self._keys: dict[int, U64] = {}
        if any(series.count > 1 for series in evidence.series):
            self._look()

    def of(self, stack: int) -> StackRounds | None:
        """What the rounds say of a stack, by its key; None: nothing, it left nothing in any."""
        return self._found.get(stack)

    @cached_property
    def growing(self) -> dict[int, StackRounds]:
        """By key, the stacks that leave more behind in each round."""
        return {key: found for key, found in self._found.items() if found.course is Course.GROWS}

    def growing_without(self, rows: Iterable[OutstandingAllocation]) -> dict[int, StackRounds]:
        """By key, what the rounds say of the growing stacks that these outstanding allocations are of, without them."""
        counted: dict[int, Counts] = {}  # of the stacks that are one by name, which share what was found
        for row in rows:
            found = self.growing[row.stack]
            number = found.round_of(row.time_ns)
            if number is not None:
                counted.setdefault(id(found), np.zeros(found.left.size, np.int64))[number] += 1
        names = self._evidence.names
        return {
            key: self._judge(names.stacks.get(key), found.series, np.maximum(found.left - counted[id(found)], 0))
            for key, found in self.growing.items()
            if id(found) in counted
        }

    @property
    def bounded(self) -> frozenset[int]:
        """The keys of the stacks that are not growing."""
        return frozenset(key for key, found in self._found.items() if found.is_bounded)

    def _look(self) -> None:
        ledger, names = self._evidence.ledger, self._evidence.names
        snapshot = ledger.snapshot()
        some = snapshot.outstanding > 0
        some &= snapshot.stacks != 0
        keys = snapshot.stacks[some]
        numbers = StackDeduplicator(names.stacks.get).numbers(keys)
        groups, times = self._survivors(keys, numbers)
        found: dict[int, list[tuple[RoundSeries, Counts]]] = {}
        for series in self._evidence.series:
            for group, left in _by_round(groups, times, series).items():
                found.setdefault(group, []).append((series, left))
        for group, counted in found.items():
            of_group = keys[numbers == group]
            stack = names.stacks.get(int(of_group[0]))
            best = min((self._judge(stack, series, left) for series, left in counted), key=partial(_rank, stack=stack))
            if best.course is Course.GROWS and not stack.modules:
                best = self._without_the_living(stack, of_group, best)
            self._found.update(dict.fromkeys(of_group.tolist(), best))

    def _survivors(self, keys: U64, numbers: Index) -> tuple[Index, U64]:
        """The group and the time of what is outstanding of these stacks, but for the books of allocators."""
        ledger = self._evidence.ledger
        told = ~np.isin(keys, np.array(sorted(of_books(ledger, self._evidence.names)), np.uint64))
        survivors = ledger.survivors(keys[told])
        return numbers[told][survivors.stack_index], survivors.time_ns

    def _judge(self, stack: Stack, series: RoundSeries, left: Counts) -> StackRounds:
        lost = sum(w.all_frees for w in self._evidence.loss.windows if series.edges and w.to_ns >= series.edges[0])
        gone = self._gone(stack, series)
        return StackRounds(series, left, repetition(left, lost, GONE if gone else ANY), gone)

    def _gone(self, stack: Stack, series: RoundSeries) -> bool:
        """Whether a module that it passes through was gone at the end of each round, or nearly each."""
        if series.source is RoundSource.LOAD:
            return series.name in stack.modules
        unloads = self._evidence.names.symbols.unloads
        return any(len(unloads(module)) >= series.count - 1 for module in stack.modules)

    def _without_the_living(self, stack: Stack, keys: U64, rounds: StackRounds) -> StackRounds:
        """The same without what processes of user space allocated that live on: they may well hold it."""
        rows = self._evidence.ledger.outstanding(keys.tolist())
        alive = np.isin(rows["tgid"], np.array(sorted(self._evidence.alive), np.uint32))
        in_task = may_be_task(rows)
        times = rows["time_ns"][~(alive & in_task)]
        left = _by_round(np.zeros(times.size, np.intp), times, rounds.series)
        return self._judge(stack, rounds.series, left.get(0, np.zeros(rounds.series.count, np.int64)))


def _by_round(groups: Index, times: U64, series: RoundSeries) -> dict[int, Counts]:
    """How many were allocated in each round, by group; only groups of which there are any."""
    edges = np.array(series.edges, np.uint64)
    numbers = np.searchsorted(edges, times, side="right").astype(np.intp) - 1
    within = (numbers >= 0) & (numbers < series.count)
    cells, counts = np.unique(groups[within] * max(series.count, 1) + numbers[within], return_counts=True)
    found: dict[int, Counts] = {}
    for cell, count in zip(cells.tolist(), counts.tolist(), strict=True):
        group, number = divmod(cell, series.count)
        found.setdefault(group, np.zeros(series.count, np.int64))[number] = count
    return found


_COURSES = (Course.GROWS, Course.LEVELS_OFF, Course.PENDING, Course.UNCLEAR)


def _rank(rounds: StackRounds, stack: Stack) -> tuple[int, bool, int, float]:
    """The series that says most of a stack comes first: those of its own modules, and what covers most of it."""
    foreign = rounds.series.source is RoundSource.LOAD and rounds.series.name not in stack.modules
    return _COURSES.index(rounds.course), foreign, -int(rounds.left.sum()), rounds.repetition.chance


def rounds_in_words(rounds: StackRounds) -> str:
    """What a stack leaves behind, in words."""
    said = rounds.repetition
    number = f"{said.per_round:g}"
    objects = "object" if number == "1" else "objects"
    return f"{number} {objects} more with each {rounds.series}, in {said.grew_in} of {said.total} after the warm-up"
