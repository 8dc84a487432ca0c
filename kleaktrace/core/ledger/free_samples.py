# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples of the allocations that were freed, per call stack: what a leak is compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import grown
from kleaktrace.core.arrays.types import Index
from kleaktrace.core.events.records import Rows

TRAITS = np.dtype(
    [
        ("comm", "S16"),
        ("time_ns", "<u8"),  # when allocated
        ("bytes_req", "<u8"),
        ("gfp_flags", "<u4"),
        ("cpu", "<u2"),
        ("context", "u1"),
        ("taken", "u1"),  # 1: this place of the table holds a sample
    ]
)
"""What allocations from one call stack may have in common, and when they were made: 40 bytes."""

Traits = npt.NDArray[np.void]
"""A structured array of TRAITS."""

SAMPLES_OF_A_KIND = _HALF = 16
"""Samples of a stack that are of this epoch, and as many of all before."""

_EPOCH = 32
"""Batches in which a stack is sampled once: what is freed all the time needs no more."""

_SAMPLED = ("comm", "time_ns", "bytes_req", "gfp_flags", "cpu", "context")


class SiblingSamples:
    """Up to 32 freed allocations of every stack, of all times: 1.3 KiB for each stack that ever freed one.

    Time goes in epochs of 32 batches. Of each stack 16 samples of this epoch are kept, and 16 of all epochs before,
    each of whose samples is as likely to be among them (reservoir sampling, J. S. Vitter, 1985, algorithm R).
    """

    def __init__(self) -> None:
        self._recent: npt.NDArray[np.void] = np.zeros((0, _HALF), TRAITS)
        self._earlier: npt.NDArray[np.void] = np.zeros((0, _HALF), TRAITS)
        self._seen = np.zeros(0, np.intp)  # by stack: freed in this epoch before it had enough
        self._moved = np.zeros(0, np.intp)  # by stack: samples of the epochs before
        self._random = np.random.default_rng(0)  # any will do: the same stream of events gives the same samples
        self._batches = 0

    @classmethod
    def restored(cls, recent: Traits, earlier: Traits) -> SiblingSamples:
        """Those of a `state`. They can be asked, and not added to: what they were chosen by is not kept."""
        made = cls()
        made._recent, made._earlier = recent, earlier
        return made

    def state(self) -> tuple[Traits, Traits]:
        """Copies of the samples of this epoch and of those before: TRAITS by stack number (rows) and place."""
        return self._recent.copy(), self._earlier.copy()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._recent.nbytes + self._earlier.nbytes + self._seen.nbytes + self._moved.nbytes

    def choose(self, stacks: Index) -> Index:
        """Which of the freed allocations, given by their stacks' numbers, to sample: at most 16 for each stack.

        None of stacks that have enough of this epoch; of the others, the last one of every sixteenth place. Which
        places those are changes from batch to batch: of a stack that frees once in each, all are kept.
        """
        most = int(stacks.max(initial=-1)) + 1
        if most > self._seen.size:
            self._make_room(most)
        wanted = (self._seen.take(stacks) < _HALF).nonzero()[0]
        of_wanted = stacks[wanted]
        np.add.at(self._seen, of_wanted, 1)
        cells = of_wanted * _HALF + self._places(wanted)
        last_first = np.unique(cells[::-1], return_index=True)[1]
        return np.sort(wanted[::-1][last_first])

    def add(self, stacks: Index, chosen: Index, rows: Rows) -> None:
        """Keep samples: `rows` are the allocations at the `chosen` places of a batch, `stacks` their numbers."""
        samples = np.ones(chosen.size, TRAITS)
        for name in _SAMPLED:
            samples[name] = rows[name]
        self._recent[stacks, self._places(chosen)] = samples

    def _places(self, of_batch: Index) -> Index:
        places: Index = (of_batch + self._batches) % _HALF
        return places

    def next_batch(self) -> None:
        """Begin an epoch when it is time."""
        self._batches += 1
        if self._batches % _EPOCH == 0:
            self._move()
            self._seen[:] = 0

    def _move(self) -> None:
        """Put the epoch's samples among the earlier ones, each in an empty place or in a random one, or drop it."""
        for place in range(_HALF):
            stacks = (self._recent["taken"][:, place] == 1).nonzero()[0]
            before = self._moved[stacks]
            at = np.where(before < _HALF, before, self._random.integers(0, before + 1))
            kept = at < _HALF
            self._earlier[stacks[kept], at[kept]] = self._recent[stacks[kept], place]
            self._moved[stacks] += 1
        self._recent["taken"] = 0

    def _make_room(self, stacks: int) -> None:
        room = stacks * 5 // 4 + 16
        self._recent = grown(self._recent, room, 1)
        self._earlier = grown(self._earlier, room, 1)
        self._seen = grown(self._seen, room, 1)
        self._moved = grown(self._moved, room, 1)

    def of(self, stack: int) -> Traits:
        """The samples of a stack, by its number, in no particular order."""
        if not 0 <= stack < len(self._recent):
            return np.zeros(0, TRAITS)
        both: Traits = np.concatenate([self._earlier[stack], self._recent[stack]])
        taken: Traits = both[both["taken"] == 1]
        return taken
