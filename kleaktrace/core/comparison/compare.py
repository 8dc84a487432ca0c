# SPDX-License-Identifier: GPL-2.0-or-later
"""What has changed from one recording to another: which call stacks leave more behind, which less, and since when.

Listed is what is told apart by evidence, of one of three kinds: a leak that was confirmed in the one and not in the
other; memory of a module that came or went in the one, and of which the other has seen nothing; and counts that differ
by more than chance explains (`differences`). All else is within the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import Mask
from kleaktrace.core.comparison.common_stacks import CommonStacks, CompareBy
from kleaktrace.core.comparison.comparison import Amount, Because, Change, ChangeKind, Comparison, Operations, Side
from kleaktrace.core.comparison.counted_recording import CountedRecording, JudgedRecording
from kleaktrace.core.comparison.differences import Intervals, differences, quantile, widened
from kleaktrace.core.events.coverage import kinds_missed
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL
from kleaktrace.core.growth.growing_stacks import held_words, kept_words
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.leaked_objects.leaks import stack_key
from kleaktrace.core.overview.stack_overview import NOT_SEEN
from kleaktrace.core.recording import Recording
from kleaktrace.core.symbols.symbol_table import Frame


def compare(
    before: Recording,
    after: Recording,
    by: CompareBy = CompareBy.STACK,
    operations: Operations | None = None,
) -> Comparison:
    """Compare two recordings, by what each left behind in a second; or in an operation, if their numbers are given."""
    common = CommonStacks(by)
    sides = [JudgedRecording.of(recording, common) for recording in (before, after)]
    old, new = (side.counted(len(common)) for side in sides)
    units = (operations.before, operations.after) if operations else (old.window.seconds, new.window.seconds)
    return _Comparing(common, old, new, units).comparison("operation" if operations else "second")


@dataclass(frozen=True, slots=True)
class _Differences:
    objects: Intervals
    bytes: Intervals

    @property
    def told_apart(self) -> Mask:
        return self.objects.told_apart | self.bytes.told_apart


@dataclass(frozen=True, slots=True)
class _Comparing:
    """Two recordings while they are compared. units: of each."""

    common: CommonStacks
    old: CountedRecording
    new: CountedRecording
    units: tuple[float, float]

    def comparison(self, unit: str) -> Comparison:
        nowhere = self._nowhere()
        some = ((self.old.objects > 0) | (self.new.objects > 0)) & ~nowhere
        compared = int(np.count_nonzero(some))
        without_loss, found = self._differences(quantile(2 * compared))
        leaks = (self.old.confirmed ^ self.new.confirmed) & ~nowhere
        of_module = self._of_one_module() & some
        counts = found.told_apart & some
        changes = [
            self._change(number, found, leaks[number], of_module[number], counts[number])
            for number in np.flatnonzero(leaks | of_module | counts).tolist()
        ]
        hidden = without_loss.told_apart & some & ~(leaks | of_module | counts)
        news = [change for change in changes if not change.kept or Because.LEAK in change.because]
        return Comparison(
            by=self.common.by,
            unit=unit,
            before=self._side(self.old, self.units[0]),
            after=self._side(self.new, self.units[1]),
            compared=compared + int(np.count_nonzero(leaks & ~some)),
            changes=sorted(news, key=_order),
            kept=sorted((change for change in changes if change not in news), key=_order),
            hidden=[
                self._change(number, without_loss, False, False, True) for number in np.flatnonzero(hidden).tolist()
            ],
            not_comparable=self._not_comparable(),
            undecided=self._undecided(),
            nameless_leaks=sum(
                number == NOT_SEEN or bool(nowhere[number]) for number, _ in self.new.suspects(Verdict.CONFIRMED)
            ),
        )

    @property
    def _scale(self) -> float:
        return self.units[1] / self.units[0]

    def _differences(self, z: float) -> tuple[_Differences, _Differences]:
        """As if nothing were lost, and as it is."""
        old, new, scale = self.old.arrivals, self.new.arrivals, self._scale
        objects = differences(old.objects, new.objects, scale, z)
        size = differences(old.bytes, new.bytes, scale, z)
        totals, count = self.old.bytes + self.new.bytes, self.old.objects + self.new.objects
        mean = np.divide(totals, count, out=np.zeros_like(totals), where=count > 0)
        before, after = self.old.lost(mean), self.new.lost(mean)
        return _Differences(objects, size), _Differences(
            widened(objects, before[0], after[0], scale), widened(size, before[1], after[1], scale)
        )

    def _nowhere(self) -> Mask:
        """Those that stand for all of which no stack could be taken: no one place in the code."""
        found = np.zeros(len(self.common), np.bool_)
        for counted in (self.old, self.new):
            overview = counted.side.overview
            for stack, leaf in enumerate(overview.leaves.tolist()):
                if overview.tree.frames[overview.tree.frame_numbers[leaf]].name == NO_STACK_LABEL:
                    found[counted.side.numbers[stack]] = True
        return found

    def _of_one_module(self) -> Mask:
        """Those through a module that came or went in one recording, and that the other has never seen."""
        found = np.zeros(len(self.common), np.bool_)
        for counted, other in ((self.old, self.new), (self.new, self.old)):
            own = counted.modules()[0] - other.modules()[1]
            overview = counted.side.overview
            tree = overview.tree
            in_own = [tree.frames[number].module in own for number in tree.frame_numbers]
            for node, parent in enumerate(tree.parents):
                in_own[node] = in_own[node] or (parent >= 0 and in_own[parent])
            through = np.array([in_own[leaf] for leaf in overview.leaves.tolist()], np.bool_)
            found[counted.side.numbers[through]] = True
        return found

    def _change(self, number: int, found: _Differences, leak: bool, module: bool, counts: bool) -> Change:
        before, after = self.old.amount(number), self.new.amount(number)
        objects, size = (_interval(of, number) for of in (found.objects, found.bytes))
        shown = self.new if after.objects or not before.objects else self.old
        because = {Because.LEAK: leak, Because.MODULE: module, Because.COUNTS: counts}
        overview, place = shown.side.overview, int(shown.place[number])
        frames, requester_at = self._frames(number)
        lines = self.common.lines(frames)
        kept, held = ("", "") if leak else self._reasons(shown, number)
        units = self.units[1]
        return Change(
            key=stack_key(lines),
            frames=frames,
            requester_at=requester_at,
            lines=lines,
            kind=_kind(before, after, size if size.estimate else objects),
            because=tuple(why for why, is_so in because.items() if is_so),
            before=before,
            after=after,
            objects=objects,
            bytes=size,
            bytes_per_unit=Interval(size.estimate / units, size.low / units, size.high / units),
            cache=overview.caches[place],
            context=overview.contexts[place],
            comm=overview.comms[place],
            kept=kept,
            held=held,
        )

    def _frames(self, number: int) -> tuple[tuple[Frame, ...], int]:
        """The frames of a stack, and which of them asked for the memory."""
        shown = self.new if self.new.place[number] != NOT_SEEN else self.old
        overview, place = shown.side.overview, int(shown.place[number])
        return self.common.frames(overview, place), int(overview.requesters_at[place])

    def _reasons(self, shown: CountedRecording, number: int) -> tuple[str, str]:
        """Why it is kept on purpose, and who may hold it."""
        recording, overview = shown.side.recording, shown.side.overview
        alike = np.flatnonzero(shown.side.numbers == number).tolist()
        keys = [key for stack in alike for key in overview.keys[stack]]
        rows = recording.ledger.outstanding(keys)
        if not rows.size:
            return "", ""
        kept = kept_words(rows, recording.names, recording.processors)
        return kept, held_words(rows, recording.names.stacks.get(keys[0]), recording.alive)

    def _undecided(self) -> list[str]:
        """Keys of stacks that may have leaked in the second recording, and have no such suspects in the first."""
        numbers = {number for number, _ in self.new.suspects(Verdict.UNDECIDED)}
        known = self.old.confirmed | self.old.undecided
        fresh = (number for number in numbers if number == NOT_SEEN or not known[number])
        return sorted("" if n == NOT_SEEN else stack_key(self.common.lines(self._frames(n)[0])) for n in fresh)

    def _not_comparable(self) -> list[str]:
        missed = [set(kinds_missed(counted.side.recording.coverage)) for counted in (self.old, self.new)]
        return [
            f"{kind} events are only seen in {name}"
            for name, kinds in (("AFTER", missed[0] - missed[1]), ("BEFORE", missed[1] - missed[0]))
            for kind in sorted(kinds)
        ]

    def _side(self, counted: CountedRecording, units: float) -> Side:
        report = counted.side.report
        return Side(
            kernel=report.kernel,
            started=report.window.start,
            seconds=report.window.seconds,
            units=units,
            verdict=str(report.outcome),
            lost=report.loss.events,
            gaps=(*report.gaps, *(f"memory is missing: {missing}" for missing in report.findings.missing)),
        )


def _interval(found: Intervals, number: int) -> Interval:
    return Interval(float(found.estimates[number]), float(found.lows[number]), float(found.highs[number]))


def _kind(before: Amount, after: Amount, difference: Interval) -> ChangeKind:
    if not before.objects:
        return ChangeKind.NEW
    if not after.objects:
        return ChangeKind.GONE
    return ChangeKind.GROWN if difference.estimate >= 0 else ChangeKind.SHRUNK


def _order(change: Change) -> tuple[object, ...]:
    """New leaks first, then what there is more of, then what there is less of; the most bytes first."""
    return not change.is_new_leak, change.bytes.estimate < 0, -abs(change.bytes.estimate), change.key
