# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording: all that a session has learned, to be judged and reported, now or later, as often as one likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.coverage import CoverageKind, StackCheck
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Rows
from kleaktrace.core.evidence.evidence import Evidence, JudgedSuspect, Question, SuspectSource, Verdict
from kleaktrace.core.evidence.injected_runs import Walk
from kleaktrace.core.evidence.rounds import RoundSeries, load_cycles
from kleaktrace.core.grouping.implied_frees import implied_from
from kleaktrace.core.grouping.outstanding_groups import group_tally
from kleaktrace.core.growth.detection import growing, growing_within
from kleaktrace.core.growth.growing_stacks import (
    GrowingStack,
    StackDeduplicator,
    bursts,
    growth_evidence,
    module_births,
    named_growing,
    of_books,
)
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.known_leaks import NOTHING_KNOWN, KnownLeaks
from kleaktrace.core.leaked_objects.anatomy import (
    Anatomy,
    ObjectContents,
    anatomy,
    leaked_rows,
    overwritten_words,
    referenced_rows,
)
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.machine.traced_pages import unjudged_pages
from kleaktrace.core.machine.unexplained_memory import Unexplained
from kleaktrace.core.rates.rate_table import MachineHistory
from kleaktrace.core.repetition.repeated_stacks import RepeatedStacks
from kleaktrace.core.report import CommandResult, Findings, Kernel, KnownFindings, Report, Window, outcome
from kleaktrace.core.verdicts.overlooked import overlooked
from kleaktrace.core.verdicts.rules import judge, open_questions


@dataclass(frozen=True, kw_only=True)
class Recording(Evidence):
    """The evidence, and what else a report tells: what the events told, and what was learned beside them.

    Times are ns, CLOCK_MONOTONIC. Judging it twice gives the same verdicts; nothing here asks anybody. The ledger and
    the names may be those of a session: then it must rest meanwhile.
    """

    kernel: Kernel
    started: datetime
    history: LevelHistory
    context_source: str = ""
    stack_check: StackCheck = field(default_factory=StackCheck)

    command: CommandResult | None = None
    growth_windows: Sequence[tuple[int, int]] = ()
    """When to look for births of what grows, [from, to); none: from the start to the end."""
    settled: Settled | None = None
    walk: Walk | None = None
    """The runs in each of which one allocation failed, if `inject` made them."""
    missing: Sequence[Unexplained] = ()
    contents: ObjectContents | None = None
    """What the confirmed suspects held; None: nobody looked."""
    gaps: Sequence[str] = ()
    """Why the evidence is incomplete, besides loss."""
    machine: MachineHistory = field(default_factory=MachineHistory)
    """What the machine itself said meanwhile that it uses, as far as anybody asked."""

    same: StackDeduplicator | None = None
    """Of the same names, if there is one that knows them already: it saves time."""

    @property
    def seconds(self) -> float:
        """From the start to the end."""
        return (self.clock.end.time_ns - self.clock.start.time_ns) / 1e9

    @cached_property
    def _repeated(self) -> RepeatedStacks:
        return RepeatedStacks(self)

    @cached_property
    def _same(self) -> StackDeduplicator:
        return self.same or StackDeduplicator(self.names.stacks.get)

    def load_cycles(self, end_ns: int) -> list[RoundSeries]:
        """The modules that were loaded again and again until then, as rounds."""
        symbols = self.names.symbols
        return [
            load_cycles(name, symbols.loads(name), symbols.unloads(name), end_ns)
            for name in sorted(symbols.unloaded)
            if len(symbols.loads(name)) > 1
        ]

    def open_questions(self) -> list[Question]:
        """What the verdicts would like to know from kmemleak, and `answers` does not tell."""
        return open_questions(self, self._repeated)

    def judge(self) -> list[JudgedSuspect]:
        """Verdicts on all suspects of the readings, what unloaded modules left, and what rounds left behind."""
        return judge(self, self._repeated)

    def leaked_rows(self, suspects: Sequence[JudgedSuspect]) -> Rows:
        """The confirmed suspects as OUTSTANDING rows, as many as are looked into."""
        return leaked_rows(self.ledger, suspects, self.names)

    def growing(self, suspects: Sequence[JudgedSuspect] = ()) -> list[GrowingStack]:
        """The stacks that keep growing, fastest first; without those that the suspects' rounds convict."""
        # What vmalloc takes to describe its areas goes, later, when they go; those are looked at themselves.
        books = of_books(self.ledger, self.names) if self.covers(CoverageKind.VMALLOC) else frozenset()
        start_ns, end_ns = self.clock.start.time_ns, self.clock.end.time_ns
        evidence = growth_evidence(self.ledger, self._same, start_ns, end_ns, without=books)
        windows = self.growth_windows
        found = growing_within(evidence, windows) if windows else growing(evidence)
        if windows:
            births = module_births(self.ledger, self.names)
            sudden = bursts(evidence, births, self.names, self._same, windows)
            found += [one for one in sudden if one.stack not in {known.stack for known in found}]
        stacks = self.names.stacks
        convicted = {s.stack for s in suspects if s.verdict is Verdict.CONFIRMED and s.rounds is not None}
        known = convicted | {tuple(stacks.get(key).lines()) for key in self._repeated.bounded}
        found = [one for one in found if tuple(stacks.get(one.stack).lines()) not in known]
        if not found:
            return []
        keys = {key for one in found for key in self._same.keys_of_same_stack(one.stack).tolist()} - books
        listed = [s.stack for s in suspects if s.source == SuspectSource.KMEMLEAK] if self.readings else None
        named = named_growing(
            found, self._same, self.ledger.outstanding(keys), self.names, listed, self.alive, self.processors
        )
        # Of what leaks, at least some is kept by nobody.
        leaking = {s.stack for s in suspects if s.verdict is Verdict.CONFIRMED}
        leaks = (tuple(stacks.get(one.growing.stack).lines()) in leaking for one in named)
        return [replace(one, kept="") if leak else one for one, leak in zip(named, leaks, strict=True)]

    def overlooked(self, suspects: Sequence[JudgedSuspect], handed_out: U64 | None) -> list[str]:
        """What kmemleak may have overlooked, for the sheaves that point there: see `core.verdicts.overlooked`."""
        return overlooked(self, suspects, self._repeated, handed_out)

    def with_contents(self, contents: ObjectContents) -> Recording:
        """The same, knowing what the confirmed suspects held."""
        return self._with(contents=contents)

    def with_gaps(self, more: Sequence[str]) -> Recording:
        """The same, with more reasons why the evidence is incomplete."""
        return self._with(gaps=[*self.gaps, *more])

    def _with(self, **learned: Any) -> Recording:
        known = replace(self, **learned)
        known.__dict__.update(_repeated=self._repeated)  # it does not go by what is learned afterwards
        return known

    def report(self, suspects: Sequence[JudgedSuspect] = (), known: KnownLeaks = NOTHING_KNOWN) -> Report:
        """Everything there is to show. `suspects` are what `judge` gave, or nothing if nobody judged.

        known: what is told of apart, and not counted.
        """
        grown = self.growing(suspects)
        gaps = [*self.gaps, *_lost(self.loss)]
        told = {tuple(s.stack) for s in suspects if s.verdict is Verdict.CONFIRMED} | {tuple(g.lines()) for g in grown}
        tally = self.ledger.tally()
        missing = unjudged_pages(self.missing, tally, self.names.stacks, told)
        contents = () if self.contents is None else (self.contents.coverage,)
        found_anatomy = self._anatomy(suspects)
        suspects, others, apart = _known_apart(suspects, grown, known)
        unexplained = [stack for stack in others if not stack.kept]
        return Report(
            kernel=self.kernel,
            window=Window(self.started, self.clock.start.time_ns, self.seconds),
            coverage=(*self.coverage, *contents),
            loss=self.loss,
            totals=self.ledger.totals(),
            suspects=suspects,
            outstanding=group_tally(tally, self.names),
            outcome=outcome(suspects, [*gaps, *map(str, missing)], unexplained),
            findings=Findings(self.settled, missing, found_anatomy, self.alive),
            implied_from=implied_from(self.ledger, self.names),
            gaps=gaps,
            context_source=self.context_source,
            command=self.command,
            growing=unexplained,
            growing_kept=[stack for stack in others if stack.kept],
            stack_check=self.stack_check,
            build_ids=self.names.build_ids.copy(),
            known=apart,
            known_file=known.name,
        )

    def _anatomy(self, suspects: Sequence[JudgedSuspect]) -> Anatomy:
        """What the confirmed suspects are: causes and what hangs on them, and what they hold."""
        rows = self.leaked_rows(suspects)
        held = {} if self.contents is None else self.contents.words
        words = [held.get(address, np.zeros(0, np.uint64)) for address in rows["object"].tolist()]
        start_ns, end_ns = self.clock.start.time_ns, self.clock.end.time_ns
        overwritten = overwritten_words(self.ledger, self.series, start_ns, end_ns)
        referenced = referenced_rows(rows, suspects) if self.readings else None
        return anatomy(rows, words, self.names, self.names.symbols.function_at, overwritten, referenced)


def _known_apart(
    suspects: Sequence[JudgedSuspect], grown: Sequence[GrowingStack], known: KnownLeaks
) -> tuple[Sequence[JudgedSuspect], Sequence[GrowingStack], list[KnownFindings]]:
    """What is left of suspects and of what grows, and what each line of the known ones takes out."""
    if not known.leaks:
        return suspects, grown, []
    stacks = {*(suspect.stack for suspect in suspects), *(tuple(one.lines()) for one in grown)}
    line_of = {stack: known.of(stack) for stack in stacks}
    apart = [
        KnownFindings(
            line,
            [suspect for suspect in suspects if line_of[suspect.stack] is line],
            [one for one in grown if line_of[tuple(one.lines())] is line],
        )
        for line in known.leaks
    ]
    return (
        [suspect for suspect in suspects if line_of[suspect.stack] is None],
        [one for one in grown if line_of[tuple(one.lines())] is None],
        apart,
    )


def _lost(loss: Loss) -> list[str]:
    why = ", ".join(f"{lost.events} {lost.cause}" for lost in loss.causes)
    gaps = [f"{loss.events} events were lost" + (f": {why}" if why else "")] if loss.events else []
    return [*gaps, f"{loss.names} names of stacks, caches or modules were lost"] if loss.names else gaps
