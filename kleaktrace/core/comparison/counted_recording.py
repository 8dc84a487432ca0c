# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording as a comparison needs it: judged, and counted by the numbers that its stacks share with another's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import F64, U64, Index, Mask
from kleaktrace.core.comparison.arrivals import Arrivals, Window, arrivals
from kleaktrace.core.comparison.common_stacks import CommonStacks
from kleaktrace.core.comparison.comparison import Amount
from kleaktrace.core.comparison.differences import Lost
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.overview.stack_overview import NOT_SEEN, StackOverview, stack_overview
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.tables.stack_rows import StackVerdict


@dataclass(frozen=True, slots=True)
class JudgedRecording:
    """A recording with what is known of its stacks; `numbers` are those that they share with the other's."""

    recording: Recording
    report: Report
    overview: StackOverview
    numbers: Index

    @classmethod
    def of(cls, recording: Recording, common: CommonStacks) -> JudgedRecording:
        """Judge a recording, and number its stacks."""
        report = recording.report(recording.judge())
        overview = stack_overview(recording, report)
        return cls(recording, report, overview, common.number(overview))

    def counted(self, count: int) -> CountedRecording:
        """Count it by common numbers, of which there are so many by now."""
        overview, numbers = self.overview, self.numbers

        def summed(values: U64) -> F64:
            return np.bincount(numbers, values.astype(np.float64), count).astype(np.float64)

        keys = np.array([key for of_stack in overview.keys for key in of_stack], np.uint64)
        owners = np.repeat(numbers, [len(of_stack) for of_stack in overview.keys])
        window = Window(self.recording)
        place = np.full(count, NOT_SEEN, np.intp)
        place[numbers[::-1]] = np.arange(numbers.size)[::-1]  # of several, the first: it is the largest
        return CountedRecording(
            side=self,
            window=window,
            place=place,
            objects=summed(overview.objects),
            bytes=summed(overview.bytes),
            allocations=summed(overview.allocations),
            confirmed=summed(overview.suspected.confirmed) > 0,
            undecided=summed(overview.suspected.undecided) > 0,
            growing=summed(overview.suspected.growing.astype(np.uint64)) > 0,
            arrivals=arrivals(self.recording, window, keys, owners, count),
        )


@dataclass(frozen=True, slots=True)
class CountedRecording:
    """The same by common numbers. place: in the overview, of several stacks that of the first; NOT_SEEN: of none."""

    side: JudgedRecording
    window: Window
    place: Index
    objects: F64
    bytes: F64
    allocations: F64
    confirmed: Mask
    undecided: Mask
    growing: Mask
    arrivals: Arrivals

    def amount(self, number: int) -> Amount:
        """What it has of a stack."""
        verdict = None
        if self.place[number] != NOT_SEEN:
            verdict = StackVerdict.ALIVE
            for found, worse in (
                (self.growing, StackVerdict.GROWING),
                (self.undecided, StackVerdict.UNDECIDED),
                (self.confirmed, StackVerdict.CONFIRMED),
            ):
                verdict = worse if found[number] else verdict
        return Amount(int(self.objects[number]), int(self.bytes[number]), int(self.allocations[number]), verdict)

    def suspects(self, verdict: Verdict) -> list[tuple[int, JudgedSuspect]]:
        """Those of a verdict that count, with the common number of their stack or NOT_SEEN."""
        of_suspects = self.side.overview.of_suspects
        return [
            (int(self.side.numbers[stack]) if stack != NOT_SEEN else NOT_SEEN, suspect)
            for stack, suspect in zip(of_suspects, self.side.report.suspects, strict=True)
            if suspect.verdict is verdict and suspect.counts_against_clean
        ]

    def lost(self, mean_bytes: F64) -> tuple[Lost, Lost]:
        """What may be missing of any stack, in objects and in bytes, if one has so many bytes."""
        events = frees = 0
        for loss in self.side.recording.loss.windows:
            if loss.from_ns < self.window.end_ns:
                events += loss.events
                frees += loss.all_frees
        each = np.ones_like(mean_bytes)
        return Lost(frees * each, events * each), Lost(frees * mean_bytes, events * mean_bytes)

    def modules(self) -> tuple[frozenset[str], frozenset[str]]:
        """The modules that came or went, and all of which anything was seen."""
        moved = self.side.recording.names.symbols.module_names
        return moved, moved | {frame.module for frame in self.side.overview.tree.frames if frame.module}
