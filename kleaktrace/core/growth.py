"""Stacks that keep growing though something may still point at the memory: kmemleak is blind to those.

`growing` asks of each call stack what became of what it allocated. A leak leaves survivors of every time of birth;
a cache that fills up leaves fewer and fewer, one that is shrunk leaves young ones only, and what merely lives long
shows in the survival curve that it dies. So a stack is growing if

- its survival curve has come to rest above zero (`survival.plateaus`), with at least 8 survivors older than that
  (so old that nearly all siblings that are freed at all were freed before);
- their births are spread over the time looked at, the latest part included: no one-off burst;
- and do not become rarer with time: no warm-up;
- and more of them are certain than frees are known to have been missed.

What lives longer than the session, and is born at a steady rate, cannot be told from a leak by anyone: it grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleaktrace.core.intervals import Interval, total_interval
from kleaktrace.core.ledger import Ledger
from kleaktrace.core.stack_statistics import LIFETIME_BINS, lifetime_bins
from kleaktrace.core.survival import Plateaus, SurvivalCurves, plateaus, survival_curves

F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]

MIN_SURVIVORS = 8
"""Fewer say nothing: a daemon that starts keeps as many."""

MIN_WINDOW_S = 25.0
"""Births must be spread over so long: what goes on for less is the start of something."""

_PARTS = 12
"""Parts of a window, in which births are counted."""

_BLOCKS = 6
"""Pairs of parts. All must have births, or all but one if there are few births; and the last."""

_MANY = 30

_TRAILING = 0.75
"""Each trailing window that is looked at is so much shorter than the one before."""

_AS_CERTAIN = 0.75
"""A longer window is preferred if the share of its rate that is certain is at least this part of the best one's."""

_RATE_PARTS = 64
"""Parts of a window for the variance of its rate."""

_STEADY = 0.85
"""Births become rarer if their rate falls below this, from one half of the window to the other, and not by chance."""

_HALVED = 0.5
"""They do in any case if it falls below this."""

_Z90 = 1.645


@dataclass(frozen=True, slots=True)
class Growing:
    """A stack whose outstanding set keeps growing.

    `outstanding` and `bytes` are all that is outstanding of it; `bytes_per_s` is what it leaks, without what will still
    be freed, with its 95 % interval. `leak_fraction` is the share of its allocations that never comes back.
    `since_ns` is when the first of the survivors in the growth was allocated (CLOCK_MONOTONIC).
    """

    stack: int
    outstanding: int
    bytes: int
    bytes_per_s: float
    ci95: tuple[float, float]
    leak_fraction: float
    leak_fraction_ci95: tuple[float, float]
    since_ns: int


@dataclass(frozen=True, slots=True)
class _Leaked:
    """Survivors of one stack that are on its plateau: births (s since the origin, ascending) and expected bytes."""

    births: F64
    bytes: F64


@dataclass(frozen=True, slots=True)
class _Window:
    """A time in which births kept on."""

    rate: Interval
    """Bytes a second."""
    certain_share: float
    """Lower end of the rate's interval, as a share of the rate."""
    survivors: int
    first_birth_s: float


def growing(ledger: Ledger, start_ns: int, now_ns: int) -> list[Growing]:
    """Return the growing stacks, the fastest first. Tracing began at `start_ns` (CLOCK_MONOTONIC).

    A lost free makes a survivor of what has died. So of a session with losses, only what was allocated after the
    last one counts.
    """
    origin_ns = max([start_ns, *(loss.to_ns for loss in ledger.losses)])
    snapshot = ledger.snapshot()
    candidates = np.flatnonzero(snapshot.outstanding >= MIN_SURVIVORS)
    # Stack 0 is everything of which no stack could be taken: no one place in the code.
    candidates = candidates[snapshot.stacks[candidates] != 0]
    if not candidates.size or now_ns - origin_ns < MIN_WINDOW_S * 1e9:
        return []
    keys = snapshot.stacks[candidates]
    survivors = ledger.survivors(keys)
    known = (survivors.time_ns >= origin_ns) & (survivors.time_ns <= now_ns)
    place, births, sizes = survivors.place[known], survivors.time_ns[known], survivors.bytes[known]
    bins = lifetime_bins(np.uint64(now_ns) - births).astype(np.intp)
    running = np.bincount(place * LIFETIME_BINS + bins, minlength=keys.size * LIFETIME_BINS)
    ended = _with_implied(ledger.lifetime_counts(keys), snapshot.implied_frees[candidates])
    curves = survival_curves(ended, running.reshape(keys.size, LIFETIME_BINS).astype(np.float64))
    flat = plateaus(curves)

    found = []
    order = np.lexsort((births, place))
    bounds = np.searchsorted(place[order], np.arange(keys.size + 1))
    for number in np.flatnonzero(flat.reached).tolist():
        mine = order[bounds[number] : bounds[number + 1]]
        leaked = _on_plateau(births[mine], sizes[mine], bins[mine], curves, flat, number, origin_ns, now_ns)
        end_s = (now_ns - flat.from_ns[number] - origin_ns) / 1e9
        window = _best_window(leaked, end_s)
        implied = int(snapshot.implied_frees[candidates[number]])
        if window is None or window.survivors * window.certain_share <= implied:
            continue
        found.append(
            Growing(
                stack=int(keys[number]),
                outstanding=int(snapshot.outstanding[candidates[number]]),
                bytes=int(snapshot.outstanding_bytes[candidates[number]]),
                bytes_per_s=window.rate.estimate,
                ci95=(window.rate.low, window.rate.high),
                leak_fraction=float(flat.fraction[number]),
                leak_fraction_ci95=(float(flat.low[number]), float(flat.high[number])),
                since_ns=origin_ns + round(window.first_birth_s * 1e9),
            )
        )
    return sorted(found, key=lambda one: (-one.bytes_per_s, one.stack))


def _with_implied(freed: U64, implied: U64) -> F64:
    """Give the frees that were missed the lifetimes of those that were seen; if there are none, the shortest."""
    ended = freed.astype(np.float64)
    seen = ended.sum(axis=1)
    ended *= (1 + np.divide(implied, seen, out=np.zeros_like(seen), where=seen > 0))[:, None]
    ended[:, 0] += np.where(seen > 0, 0, implied)
    return ended


def _on_plateau(
    births: U64, sizes: U64, bins: npt.NDArray[np.intp], curves: SurvivalCurves, flat: Plateaus, number: int,
    origin_ns: int, now_ns: int,
) -> _Leaked:  # fmt: skip
    old = births <= now_ns - flat.from_ns[number]
    # Some of those of this age will still be freed: each counts by its chance to be there in the end.
    chance = np.minimum(flat.fraction[number] / curves.survival[number, bins[old]], 1.0)
    return _Leaked((births[old] - np.uint64(origin_ns)) / 1e9, sizes[old] * chance)


def _best_window(leaked: _Leaked, end_s: float) -> _Window | None:
    """Return the longest window up to the end in which births keep on; None if they do in none.

    Not one that makes the rate far more uncertain than another does: there is a burst in it.
    """
    births = leaked.births
    if births.size < MIN_SURVIVORS or _falls_off(_without_bursts(_counts(births, 0.0, end_s))):
        return None
    # The first survivor only marks where its window begins; it is no part of it.
    starts = [0.0, float(np.nextafter(births[0], np.inf))]
    starts += [end_s * (1 - part) for part in _TRAILING ** np.arange(1, 1 + _longest_chain(end_s))]
    windows = [
        _rate(leaked, start, end_s)
        for number, start in enumerate(starts)
        if end_s - start >= MIN_WINDOW_S and _persists(births, start, end_s, trailing=number > 1)
    ]
    best = max((window.certain_share for window in windows), default=0.0)
    return next((w for w in windows if best > 0 and w.certain_share >= _AS_CERTAIN * best), None)


def _longest_chain(end_s: float) -> int:
    """How many trailing windows are longer than the shortest allowed."""
    return max(int(np.log(end_s / MIN_WINDOW_S) / -np.log(_TRAILING)), 0) if end_s > 0 else 0


def _persists(births: F64, start_s: float, end_s: float, trailing: bool) -> bool:
    counts = _counts(births, start_s, end_s)
    total, with_births = counts.sum(), np.count_nonzero(counts.reshape(-1, 2).sum(axis=1))
    blocks_needed = _BLOCKS if total >= _MANY else _BLOCKS - 1
    if total < MIN_SURVIVORS or with_births < blocks_needed or not counts[-2:].any():
        return False
    counts = _without_bursts(counts)
    if _falls_off(counts):
        return False
    # What goes on in a trailing window must not be the tail of what was before.
    before = _without_bursts(_counts(births, 0.0, start_s)) if trailing else counts
    return not (trailing and _rarer(before, counts, start_s / (end_s - start_s)))


def _counts(births: F64, start_s: float, end_s: float) -> F64:
    return np.histogram(births, _PARTS, (start_s, end_s))[0].astype(np.float64)


def _without_bursts(counts: F64) -> F64:
    return np.minimum(counts, max(3.0, 4 * float(np.median(counts))))


def _falls_off(counts: F64) -> bool:
    return _rarer(counts[: _PARTS // 2], counts[_PARTS // 2 :], 1.0)


def _rarer(before: F64, after: F64, ratio_of_times: float) -> bool:
    """Whether births have become rarer, by more than chance explains. `ratio_of_times`: of `before` to `after`.

    Chance is that of counts that vary as neighbours do (von Neumann, Ann. Math. Stat. 12, 1941), which a trend does
    not inflate.
    """
    earlier, later = float(before.sum()), float(after.sum())
    if (later + 1) * ratio_of_times < _HALVED * (earlier + ratio_of_times):
        return True
    steps = np.concatenate([np.diff(before) ** 2, np.diff(after) ** 2])
    dispersion = max(1.0, float(steps.sum()) / 2 / max((earlier + later) / _PARTS, 1e-9) / steps.size)
    error = np.sqrt(dispersion * (1 / (earlier + 0.5) + 1 / (later + 0.5)))
    fall = -np.log((later + 0.5) / (earlier + 0.5) * ratio_of_times)
    return bool(fall > max(_Z90 * error, -np.log(_STEADY)))


def _rate(leaked: _Leaked, start_s: float, end_s: float) -> _Window:
    inside = leaked.births >= start_s
    births, sizes = leaked.births[inside], leaked.bytes[inside]
    parts = np.histogram(births, _RATE_PARTS, (start_s, end_s), weights=sizes)[0]
    total = total_interval(parts, float((sizes**2).sum()))
    seconds = end_s - start_s
    rate = Interval(total.estimate / seconds, total.low / seconds, total.high / seconds)
    return _Window(rate, total.low / total.estimate if total.estimate else 0.0, births.size, float(births[0]))
