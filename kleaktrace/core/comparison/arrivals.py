# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of each call stack is outstanding, and how evenly it came: what tells a leak from a burst.

What a stack has left outstanding is a count over a window, but no Poisson count: a process that starts, or a directory
that is read, leaves a hundred objects at once or none. So the variance of a count is estimated from the count itself:
the window is cut into 64 parts, and the sum over independent parts has as its variance the number of parts times the
variance among them (a quasi-Poisson model: McCullagh & Nelder, Generalized Linear Models, 1989, 6.2). What goes on for
longer than a part makes neighbours alike; so 32, 16 and 8 wider parts are looked at as well (batch means: Conway,
Management Science 9, 1963), and the largest variance counts, never less than that of independent arrivals. A burst
so counts as one event whatever its size, and a leak that goes on as up to 64 or as many as it has objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import F64, U64, Index
from kleaktrace.core.recording import Recording

_PARTS = 64
_WIDTHS = (1, 2, 4, 8)
"""Of the parts that are looked at, in 64ths of the window."""

_AT_ONCE = 1 << 14
"""Parts of so many stacks take 16 MiB."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals and the variances that they have by themselves, in parallel, one element a stack."""

    totals: F64
    variances: F64


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came to stay, by stack: in objects, and in bytes as allocated."""

    objects: Counts
    bytes: Counts


class Window:
    """The time that a recording is about: while its command ran, between its marks, or all of it.

    Where events were lost up to the very end, as they are of a capture that breaks off, it ends before that.
    """

    def __init__(self, recording: Recording) -> None:
        start_ns, end_ns = recording.clock.start.time_ns, recording.clock.end.time_ns
        last = [loss for loss in recording.loss.windows if loss.to_ns >= end_ns]
        self.end_ns = max(min([end_ns, *(loss.from_ns for loss in last)]), start_ns)
        stretches = sorted(recording.growth_windows) or [(start_ns, self.end_ns)]
        edges = [float(min(max(edge, start_ns), self.end_ns)) for stretch in stretches for edge in stretch]
        self._edges = np.maximum.accumulate(np.array(edges))
        lengths = np.diff(self._edges)
        lengths[1::2] = 0  # what lies between two stretches
        self._elapsed = np.concatenate([np.zeros(1), np.cumsum(lengths)])

    @property
    def seconds(self) -> float:
        """How long it is, without what lies between its stretches; above 0."""
        return max(float(self._elapsed[-1]) / 1e9, 1e-9)

    def parts(self, times_ns: U64) -> Index:
        """In which of its 64 parts these times are. What lies between two stretches belongs to the end of the first."""
        elapsed = np.interp(times_ns.astype(np.float64), self._edges, self._elapsed)
        parts: Index = np.minimum(elapsed / (self.seconds * 1e9) * _PARTS, _PARTS - 1).astype(np.intp)
        return parts


def arrivals(recording: Recording, window: Window, keys: U64, owners: Index, count: int) -> Arrivals:
    """Of `count` stacks by number: `keys` are those of the ledger, each once, `owners` the stack that each is of."""
    living = recording.ledger.survivors(keys)
    known = np.flatnonzero(living.time_ns <= np.uint64(window.end_ns))
    order = known[np.argsort(owners[living.stack_index[known]], kind="stable")]
    owner = owners[living.stack_index[order]]
    parts, sizes = window.parts(living.time_ns[order]), living.bytes[order].astype(np.float64)
    objects, size = np.zeros((2, 2, count))
    for first in range(0, count, _AT_ONCE):
        stacks = slice(first, min(first + _AT_ONCE, count))
        of_these = slice(*np.searchsorted(owner, [stacks.start, stacks.stop]))
        places = (owner[of_these] - first, parts[of_these])
        objects[:, stacks] = _counted(places, np.ones(places[0].size), stacks.stop - first)
        size[:, stacks] = _counted(places, sizes[of_these], stacks.stop - first)
    return Arrivals(Counts(*objects), Counts(*size))


def _counted(places: tuple[Index, Index], values: F64, count: int) -> tuple[F64, F64]:
    """Totals and variances of so many stacks; `places`: stack and part of each value."""
    in_parts, variances = np.zeros((count, _PARTS)), np.zeros(count)
    np.add.at(in_parts, places, values)
    np.add.at(variances, places[0], values**2)
    for width in _WIDTHS:
        wider = in_parts.reshape(count, -1, width).sum(axis=2)
        variances = np.maximum(variances, wider.shape[1] * wider.var(axis=1, ddof=1))
    return in_parts.sum(axis=1), variances
