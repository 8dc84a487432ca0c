# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks that keep growing though something may still point at the memory: kmemleak is blind to those.

`growing` asks of each call stack what became of what it allocated. A leak leaves survivors of every time of birth;
a cache that fills up leaves fewer and fewer, one that is shrunk leaves young ones only, and what merely lives long
shows in the survival curve that it dies. So a stack is growing if

- its survival curve has come to rest above zero (`survival.plateaus`), with at least 8 survivors older than that
  (so old that nearly all siblings that are freed at all were freed before);
- their births are spread over the time looked at, the latest part included: no one-off burst;
- and do not become rarer with time: no warm-up;
- and more of them are certain than frees are known to have been missed, and most of its frees are seen: where they
  go by a path that is not traced, only those are known to be missed whose memory has been used again since.

What lives longer than the session, and is born at a steady rate, cannot be told from a leak by anyone: it grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import F64, U64
from kleaktrace.core.growth.intervals import Interval, total_interval
from kleaktrace.core.growth.survival import plateaus, survival_curves
from kleaktrace.core.growth.trend import rarer, without_bursts
from kleaktrace.core.ledger.ledger import Survivors
from kleaktrace.core.ledger.stack_counters import LIFETIME_BINS, lifetime_bins

MIN_SURVIVORS = 8
"""Fewer say nothing: a daemon that starts keeps as many."""

MIN_WINDOW_S = 25.0
"""Births must be spread over so long: what goes on for less is the start of something."""

MIN_ENDED_S = 0.001
"""That is enough of what ended a while ago, and was watched since: a command, or what lies between two of its marks."""

_WATCHED_S = 5.0
"""So long."""

_NONE_FREED = 0.9
"""In so short a time so many must stay."""

_PARTS = 12
"""Parts of a window, in which births are counted."""

_BLOCKS = 6
"""Pairs of parts. All must have births, or all but one if there are few births; and the last."""

_MANY = 30

_TRAILING = 0.75
"""Each trailing window that is looked at is so much shorter than the one before."""

_AS_CERTAIN = 0.75
"""A longer window is preferred if the share of its rate that is certain is at least this part of the best one's."""

_OTHERS_TURN = 20
"""Times the gap that nine of ten do not exceed."""

_SLOWER = 4
"""The second half of a burst may take so many times as long as the first: that of a pool takes more, once nine tenths
of it are filled."""

_TAIL = 0.25
"""So long, as a share of the burst, may be done something else after its last birth."""

_RATE_PARTS = 64
"""Parts of a window for the variance of its rate."""


@dataclass(frozen=True, slots=True)
class Growing:
    """A stack whose outstanding set keeps growing.

    `outstanding` and `bytes` are all that is outstanding of it; `bytes_per_s` is what it leaks, without what will still
    be freed, with its 95 % interval. `leak_fraction` is the share of its allocations that never comes back.
    `since_ns` is when the first of the survivors in the growth was allocated (CLOCK_MONOTONIC), and `until_ns` the end
    of the time that was looked at, if that is over.
    """

    stack: int
    outstanding: int
    bytes: int
    bytes_per_s: float
    ci95: tuple[float, float]
    leak_fraction: float
    leak_fraction_ci95: tuple[float, float]
    since_ns: int
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class GrowthEvidence:
    """What `growing` needs of a ledger, copied out of it: stacks with enough outstanding, and in parallel their counts.

    Times are ns, CLOCK_MONOTONIC. `origin_ns` is since when nothing was lost. Only what was allocated by `until_ns` is
    looked at; what became of it, until `now_ns`.
    """

    origin_ns: int
    now_ns: int
    stacks: U64
    outstanding: U64
    outstanding_bytes: U64
    implied_frees: U64
    lifetime_counts: U64
    survivors: Survivors
    until_ns: int | None = None

    @property
    def last_birth_ns(self) -> int:
        """Until when births are looked at."""
        return self.now_ns if self.until_ns is None else min(self.until_ns, self.now_ns)

    @property
    def min_window_s(self) -> float:
        """Births must be spread over so long."""
        return MIN_ENDED_S if self.now_ns - self.last_birth_ns >= _WATCHED_S * 1e9 else MIN_WINDOW_S

    def only(self, chosen: npt.NDArray[np.bool_]) -> GrowthEvidence:
        """That of some of the stacks."""
        numbers = np.cumsum(chosen, dtype=np.int32) - 1
        kept = chosen[self.survivors.stack_index]
        return replace(
            self,
            stacks=self.stacks[chosen],
            outstanding=self.outstanding[chosen],
            outstanding_bytes=self.outstanding_bytes[chosen],
            implied_frees=self.implied_frees[chosen],
            lifetime_counts=self.lifetime_counts[chosen],
            survivors=Survivors(
                numbers[self.survivors.stack_index[kept]], self.survivors.time_ns[kept], self.survivors.bytes[kept]
            ),
        )


class _Leaked:
    """Survivors of one stack that are on its plateau: their births, and the bytes that are expected to stay."""

    def __init__(self, births_s: F64, sizes: F64) -> None:
        order = np.argsort(births_s)
        self.births_s = births_s[order]
        """Since the origin, ascending."""
        self._bytes = np.concatenate([[0.0], np.cumsum(sizes[order])])
        self._squares = np.concatenate([[0.0], np.cumsum(sizes[order] ** 2)])

    def counts(self, start_s: float, end_s: float) -> F64:
        """How many were born in each twelfth of this time."""
        return np.diff(self._places(start_s, end_s, _PARTS)).astype(np.float64)

    def rate(self, start_s: float, end_s: float) -> _Window:
        """How fast they came in this time."""
        places = self._places(start_s, end_s, _RATE_PARTS)
        first, last = int(places[0]), int(places[-1])
        total = total_interval(np.diff(self._bytes[places]), float(self._squares[last] - self._squares[first]))
        seconds = end_s - start_s
        rate = Interval(total.estimate / seconds, total.low / seconds, total.high / seconds)
        share = total.low / total.estimate if total.estimate else 0.0
        return _Window(rate, share, last - first, float(self.births_s[first]))

    def _places(self, start_s: float, end_s: float, parts: int) -> npt.NDArray[np.intp]:
        edges = np.linspace(start_s, end_s, parts + 1)
        places = np.searchsorted(self.births_s, edges)
        places[-1] = np.searchsorted(self.births_s, end_s, side="right")
        return places


@dataclass(frozen=True, slots=True)
class _Window:
    """A time in which births kept on."""

    rate: Interval
    """Bytes a second."""
    certain_share: float
    """Lower end of the rate's interval, as a share of the rate."""
    survivors: int
    first_birth_s: float


def growing(evidence: GrowthEvidence) -> list[Growing]:
    """Return the growing stacks, the fastest first."""
    found = [
        _describe(evidence, each, window) for each in _leaking(evidence) if (window := _best_window(evidence, each))
    ]
    return sorted(found, key=lambda one: (-one.bytes_per_s, one.stack))


def grown_at_once(evidence: GrowthEvidence) -> list[Growing]:
    """The stacks that grew for as long as anything was done, from the origin to `until_ns`: see `_goes_on`."""
    found = []
    for each in _leaking(evidence):
        if each.tells and _goes_on(each.leaked.births_s, each.end_s):
            found.append(_describe(evidence, each, each.leaked.rate(0.0, each.end_s)))
    return found


@dataclass(frozen=True, slots=True)
class _Leaking:
    """A stack of which some never comes back. `end_s`: until when those were born that are certain, from the origin.

    tells: whether a short time tells anything. It does not where only the older ones are certain, nor where most are
    freed: a pool that replaces its oldest is left with the youngest once nobody asks any more.
    """

    number: int
    leaked: _Leaked
    end_s: float
    tells: bool
    fraction: float
    fraction_ci95: tuple[float, float]
    implied_frees: int


def _leaking(evidence: GrowthEvidence) -> Iterator[_Leaking]:
    count, now_ns, survivors = evidence.stacks.size, evidence.now_ns, evidence.survivors
    if not count or evidence.last_birth_ns - evidence.origin_ns < evidence.min_window_s * 1e9:
        return
    stack, births, sizes = survivors.stack_index, survivors.time_ns, survivors.bytes
    known = (births >= evidence.origin_ns) & (births <= evidence.last_birth_ns)
    if not known.all():
        stack, births, sizes = stack[known], births[known], sizes[known]
    bins = lifetime_bins(np.uint64(now_ns) - births).astype(np.uint8)
    running = np.bincount(stack * LIFETIME_BINS + bins, minlength=count * LIFETIME_BINS)
    ended = _with_implied(evidence.lifetime_counts, evidence.implied_frees)
    curves = survival_curves(ended, running.reshape(count, LIFETIME_BINS).astype(np.float64))
    flat = plateaus(curves)
    order = np.argsort(stack, kind="stable")
    bounds = np.searchsorted(stack[order], np.arange(count + 1))
    for number in np.flatnonzero(flat.reached & _frees_seen(evidence)).tolist():
        mine = order[bounds[number] : bounds[number + 1]]
        old_enough_ns = min(max(now_ns - int(flat.from_ns[number]), 0), evidence.last_birth_ns)
        mine = mine[births[mine] <= old_enough_ns]
        # Some of those of this age will still be freed: each counts by its chance to be there in the end.
        chance = np.minimum(flat.fraction[number] / curves.survival[number, bins[mine]], 1.0)
        yield _Leaking(
            number=number,
            leaked=_Leaked((births[mine] - np.uint64(evidence.origin_ns)) / 1e9, sizes[mine] * chance),
            end_s=(old_enough_ns - evidence.origin_ns) / 1e9,
            tells=old_enough_ns == evidence.last_birth_ns and flat.fraction[number] >= _NONE_FREED,
            fraction=float(flat.fraction[number]),
            fraction_ci95=(float(flat.low[number]), float(flat.high[number])),
            implied_frees=int(evidence.implied_frees[number]),
        )


def growing_within(evidence: GrowthEvidence, windows: Sequence[tuple[int, int]]) -> list[Growing]:
    """The same for several stretches of time, [from, to): each stack as it grew fastest."""
    fastest: dict[int, Growing] = {}
    for from_ns, to_ns in windows:
        part = replace(evidence, origin_ns=max(evidence.origin_ns, from_ns), until_ns=to_ns)
        for one in growing(part):
            if one.stack not in fastest or one.bytes_per_s > fastest[one.stack].bytes_per_s:
                fastest[one.stack] = one
    return sorted(fastest.values(), key=lambda one: (-one.bytes_per_s, one.stack))


def _describe(evidence: GrowthEvidence, one: _Leaking, window: _Window) -> Growing:
    return Growing(
        stack=int(evidence.stacks[one.number]),
        outstanding=int(evidence.outstanding[one.number]),
        bytes=int(evidence.outstanding_bytes[one.number]),
        bytes_per_s=window.rate.estimate,
        ci95=(window.rate.low, window.rate.high),
        leak_fraction=one.fraction,
        leak_fraction_ci95=one.fraction_ci95,
        since_ns=evidence.origin_ns + round(window.first_birth_s * 1e9),
        until_ns=evidence.last_birth_ns if evidence.last_birth_ns < evidence.now_ns else None,
    )


def _frees_seen(evidence: GrowthEvidence) -> npt.NDArray[np.bool_]:
    """Whether the frees of a stack are mostly seen, not implied; a few prove nothing."""
    seen = evidence.lifetime_counts.sum(axis=1)
    mostly: npt.NDArray[np.bool_] = evidence.implied_frees <= np.maximum(seen, MIN_SURVIVORS)
    return mostly


def _with_implied(freed: U64, implied: U64) -> F64:
    """Give the frees that were missed the lifetimes of those that were seen; if there are none, the shortest."""
    ended = freed.astype(np.float64)
    seen = ended.sum(axis=1)
    ended *= (1 + np.divide(implied, seen, out=np.zeros_like(seen), where=seen > 0))[:, None]
    ended[:, 0] += np.where(seen > 0, 0, implied)
    return ended


def _best_window(evidence: GrowthEvidence, one: _Leaking) -> _Window | None:
    """Return the longest window up to the end in which births keep on; None if they do in none.

    Not one that makes the rate far more uncertain than another does: there is a burst in it. Nor one whose certain
    survivors may be frees that were missed.
    """
    least_s = evidence.min_window_s if one.tells else MIN_WINDOW_S
    window = _longest_window(one.leaked, one.end_s, least_s)
    return window if window is not None and window.survivors * window.certain_share > one.implied_frees else None


def _goes_on(births_s: F64, end_s: float) -> bool:
    """Whether births go on to the end, in so short a time that others' turns make most of its gaps.

    So what counts is how long the second half of them took, against the first: a pool that fills up takes far longer.
    A gap that is far longer than nearly all others was somebody else's.
    """
    if births_s.size < MIN_SURVIVORS:
        return False
    gaps = np.diff(births_s)
    gaps = np.minimum(gaps, _OTHERS_TURN * np.quantile(gaps, 0.9))
    half = gaps.size // 2
    first, second = float(gaps[:half].sum()), float(gaps[half:].sum())
    return second <= _SLOWER * first and end_s - float(births_s[-1]) <= _TAIL * (first + second)


def _longest_window(leaked: _Leaked, end_s: float, least_s: float) -> _Window | None:
    births = leaked.births_s
    if births.size < MIN_SURVIVORS or end_s < least_s or _falls_off(without_bursts(leaked.counts(0.0, end_s))):
        return None
    # The first survivor only marks where its window begins; it is no part of it.
    starts = [0.0, float(np.nextafter(births[0], np.inf))]
    starts += [end_s * (1 - part) for part in _TRAILING ** np.arange(1, 1 + _longest_chain(end_s, least_s))]
    windows = [
        leaked.rate(start, end_s)
        for number, start in enumerate(starts)
        if end_s - start >= least_s and _persists(leaked, start, end_s, trailing=number > 1)
    ]
    best = max((window.certain_share for window in windows), default=0.0)
    return next((w for w in windows if best > 0 and w.certain_share >= _AS_CERTAIN * best), None)


def _longest_chain(end_s: float, least_s: float) -> int:
    """How many trailing windows are longer than the shortest allowed."""
    return max(int(np.log(end_s / least_s) / -np.log(_TRAILING)), 0)


def _persists(leaked: _Leaked, start_s: float, end_s: float, trailing: bool) -> bool:
    counts = leaked.counts(start_s, end_s)
    total, with_births = counts.sum(), np.count_nonzero(counts.reshape(-1, 2).sum(axis=1))
    blocks_needed = _BLOCKS if total >= _MANY else _BLOCKS - 1
    if total < MIN_SURVIVORS or with_births < blocks_needed or not counts[-2:].any():
        return False
    counts = without_bursts(counts)
    if _falls_off(counts):
        return False
    # What goes on in a trailing window must not be the tail of what was before.
    first = float(leaked.births_s[0])
    if not trailing:
        return True
    if first >= start_s:  # its empty start would make up for a fall
        return False
    before = without_bursts(leaked.counts(first, start_s))
    return not rarer(before, counts, (start_s - first) / (end_s - start_s))


def _falls_off(counts: F64) -> bool:
    return rarer(counts[: _PARTS // 2], counts[_PARTS // 2 :], 1.0)
