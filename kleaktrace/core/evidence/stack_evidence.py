# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of the call stacks that suspects come from, worked out once for all suspects of a stack."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import I64, Index
from kleaktrace.core.events.loss import Allocator, Loss
from kleaktrace.core.events.records import Context, Kind, hide
from kleaktrace.core.evidence.lifetimes import ENOUGH, Lifetimes
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.stack_counters import StackStatistics
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.kernel_names import KernelNames

if TYPE_CHECKING:
    from kleaktrace.core.kmemleak.report_parser import Suspect


@dataclass(frozen=True, slots=True)
class Siblings:
    """The allocations from the same call stack, the suspect among them."""

    allocated: int
    freed: int
    outstanding: int
    outstanding_bytes: int = 0
    median_lifetime_s: float | None = None
    free_sites: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, statistics: Sequence[StackStatistics], free_sites: Iterable[tuple[str, int]]) -> Siblings:
        """What the books have of call stacks that are one to a reader; of several, no median is known."""
        median_ns = statistics[0].lifetime_quantile(0.5) if len(statistics) == 1 else None
        return cls(
            allocated=sum(one.allocations for one in statistics),
            freed=sum(one.frees + one.implied_frees for one in statistics),
            outstanding=sum(one.outstanding for one in statistics),
            outstanding_bytes=sum(one.outstanding_bytes for one in statistics),
            median_lifetime_s=None if median_ns is None else median_ns / 1e9,
            free_sites=tuple(free_sites),
        )


@dataclass(frozen=True, slots=True)
class KnownStack:
    """A call stack, in words, and the books on it."""

    lines: tuple[str, ...]
    context: Context
    siblings: Siblings
    lifetimes: Lifetimes
    """Of the siblings that were seen to be freed."""
    old_enough_ns: int
    """From this age on an allocation is older than such siblings become (`Lifetimes.old_enough_ns`)."""
    likeness: str
    """What makes them siblings, in words: the same call stack, or only the same requester."""


class _LostFrees:
    """How many frees of one allocator's objects may have been lost, and when."""

    def __init__(self, loss: Loss, allocator: Allocator) -> None:
        windows = sorted((w for w in loss.windows if w.frees_of(allocator)), key=lambda window: window.to_ns)
        later = list(accumulate((w.frees_of(allocator) for w in reversed(windows)), initial=0))
        self._ends = [window.to_ns for window in windows]
        self._lost_from = later[::-1]

    def since(self, time_ns: int) -> int:
        """So many at most, in windows that ended at this time or later."""
        return self._lost_from[bisect_left(self._ends, time_ns)]

    @property
    def last_ns(self) -> int | None:
        """When the last window ended; None: there is none."""
        return self._ends[-1] if self._ends else None


class StackEvidence:
    """Call stacks by key. `stacks` are those that will be asked for, looked up at once; others cost a look-up each."""

    def __init__(
        self, ledger: Ledger, names: KernelNames, loss: Loss, listed: Sequence[Suspect], stacks: Iterable[int]
    ) -> None:
        self._ledger = ledger
        self._names = names
        self._listed = listed
        self._sites: dict[int, str] = {}
        self._printed: dict[int, tuple[str, ...]] = {}
        self._ages_at_loss: dict[Allocator, dict[int, I64]] = {}
        self._by_requester: dict[tuple[object, ...], list[int]] | None = None
        keys = sorted(set(stacks))
        self._known = dict(zip(keys, map(self._describe, ledger.stack_statistics(keys)), strict=True))
        self._lost_frees = {allocator: _LostFrees(loss, allocator) for allocator in Allocator}

    def of(self, stack: int) -> KnownStack:
        """A stack by its key; key 0 stands for all of which no stack could be taken."""
        if stack not in self._known:
            self._known[stack] = self._describe(*self._ledger.stack_statistics([stack]))
        return self._known[stack]

    def site(self, call_site: int) -> str:
        """A place that freed, by its key (`CallSites`), in words."""
        if call_site not in self._sites:
            self._sites[call_site] = site_words(self._names, call_site)
        return self._sites[call_site]

    def printed(self, suspect: Suspect) -> tuple[str, ...]:
        """The call stack as kmemleak prints it. Objects from one place share their frames, see `kmemleak_text`."""
        key = id(suspect.frames)  # they live as long as the readings; hashing them would cost more than the words
        if key not in self._printed:
            self._printed[key] = tuple(frame.text for frame in suspect.frames)
        return self._printed[key]

    def lost_since(self, time_ns: int, kind: int) -> int:
        """Events lost in windows that ended at this time or later, of those that may have freed this kind of object."""
        return self._lost_frees[Allocator.of(kind)].since(time_ns)

    def unlisted_ages_at_loss_ns(self, stack: int, kind: int) -> I64:
        """How old those were, when frees were last lost, that may have been freed unseen then: ascending.

        They are outstanding by our books, they were there then, and the last reading does not list them.
        """
        allocator = Allocator.of(kind)
        if allocator not in self._ages_at_loss:
            last_ns = self._lost_frees[allocator].last_ns
            self._ages_at_loss[allocator] = {} if last_ns is None else self._unlisted_ages(last_ns)
        return self._ages_at_loss[allocator].get(stack, np.zeros(0, np.int64))

    def _describe(self, statistics: StackStatistics) -> KnownStack:
        stack = self._names.stacks.get(statistics.stack)
        siblings = Siblings.of([statistics], ((self.site(site), count) for site, count in statistics.free_sites))
        lifetimes, likeness = Lifetimes.of([statistics]), "from the same call stack"
        if lifetimes.freed < ENOUGH and (alike := self._same_requester(stack)) and stack.requester is not None:
            lifetimes = Lifetimes.of(self._ledger.stack_statistics(alike))
            likeness = f"asked for by {stack.requester.name}, from whatever call stack"
        return KnownStack(tuple(stack.lines()), stack.context, siblings, lifetimes, lifetimes.old_enough_ns(), likeness)

    def _same_requester(self, stack: Stack) -> list[int]:
        """The keys of all stacks that are the same from the innermost frame to the requester."""
        if self._by_requester is None:
            self._by_requester = {}
            for key in self._ledger.snapshot().stacks.tolist():
                frames = _to_requester(self._names.stacks.get(key))
                if frames:
                    self._by_requester.setdefault(frames, []).append(key)
        return self._by_requester.get(_to_requester(stack), [])

    def _unlisted_ages(self, loss_ns: int) -> dict[int, I64]:
        rows = self._ledger.outstanding(self._known)
        rows = rows[rows["time_ns"] <= np.uint64(loss_ns)]
        of_percpu, listed = rows["kind"] == Kind.PERCPU, np.zeros(rows.size, np.bool_)
        for percpu, of_kind in ((True, of_percpu), (False, ~of_percpu)):
            suspects = [suspect for suspect in self._listed if (suspect.kind == SuspectKind.PERCPU) is percpu]
            objects = np.array([hide(suspect.untagged) for suspect in suspects], np.uint64)
            listed |= of_kind & np.isin(rows["object"], objects)
        rows = rows[~listed]
        ages = loss_ns - rows["time_ns"].astype(np.int64)
        return {stack: np.sort(ages[places]) for stack, places in places_by_stack(rows)}


def site_words(names: KernelNames, call_site: int) -> str:
    """A place that freed, by its key (`CallSites`), in words."""
    return str(names.sites.frame(call_site)) if call_site else "an unknown caller"


def _to_requester(stack: Stack) -> tuple[object, ...]:
    """The frames up to the one that asked in its own interest, by name; nothing if it has no name.

    Functions that share what they allocate make siblings of nothing: names of kobjects live as long as the kobjects.
    Nor do allocators by what they take for their own books, of which others may make use: spare nodes, for instance.
    """
    requester = stack.requester
    if requester is None or not requester.name or stack.below_machinery or stack.within_vmalloc:
        return ()
    frames = stack.frames[: stack.frames.index(requester) + 1]
    return tuple((frame.name, frame.offset, frame.module) for frame in frames)


def places_by_stack(rows: npt.NDArray[Any]) -> Iterator[tuple[int, Index]]:
    """Each stack key that occurs in the rows, and where."""
    order = np.argsort(rows["stack"], kind="stable")
    stacks, starts = np.unique(rows["stack"][order], return_index=True)
    for stack, start, end in zip(stacks.tolist(), starts.tolist(), [*starts[1:].tolist(), rows.size], strict=False):
        yield stack, order[start:end]
