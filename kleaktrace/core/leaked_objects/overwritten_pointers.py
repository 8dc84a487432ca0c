# SPDX-License-Identifier: GPL-2.0-or-later
"""The signature of a pointer that was overwritten before its object was freed: only the youngest is ever freed.

Who keeps one object in one variable, allocates another into it and frees what is in it at the end, frees of each round
the youngest and leaks all before it. If which one of a round's n is freed were chance, it would be the youngest in one
of n rounds; over rounds the chances multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_CHANCE = 0.01
"""How likely it may be that it is the youngest each time by chance: tried on few stacks, those with leaks."""


@dataclass(frozen=True, slots=True)
class OverwrittenPointer:
    """In each of `rounds` rounds only the youngest of `fewest` to `most` allocations was freed.

    `chance` is how likely that is if any of them might have been the one.
    """

    rounds: int
    fewest: int
    most: int
    chance: float

    def __str__(self) -> str:
        each = str(self.fewest) if self.fewest == self.most else f"{self.fewest} to {self.most}"
        if self.rounds == 1:
            freed = f"only the youngest of {each} was freed"
        else:
            freed = f"only the youngest of each {each} is ever freed (in {self.rounds} of {self.rounds} rounds)"
        return f"{freed}: it looks as if a pointer was overwritten before its object was freed"


def overwritten_pointer(
    leaked_ns: npt.ArrayLike, freed_ns: npt.ArrayLike, boundaries_ns: Sequence[int]
) -> OverwrittenPointer | None:
    """Look for the signature in the allocations of one call stack, or return None.

    leaked_ns, freed_ns: when the leaked were allocated, and those of the freed that are known. boundaries_ns: when each
    round began, ascending, and when the last one ended; of one round its start and end. What was allocated outside of
    them is left out, and a round says nothing unless some of it were leaked and one freed: the last may not be over.
    One round in which more are freed, or another than the youngest, speaks against it.
    """
    leaked, freed = np.asarray(leaked_ns, np.uint64), np.asarray(freed_ns, np.uint64)
    edges = np.asarray(boundaries_ns, np.uint64)
    leaked_of, freed_of = _by_round(leaked, edges), _by_round(freed, edges)
    if any(some.size > 1 for some in freed_of):
        return None
    told = [(lost, ended) for lost, ended in zip(leaked_of, freed_of, strict=True) if lost.size and ended.size]
    if any(ended[0] <= lost.max() for lost, ended in told):
        return None
    sizes = [lost.size + 1 for lost, _ in told]
    chance = float(np.prod([1 / size for size in sizes]))
    return OverwrittenPointer(len(told), min(sizes), max(sizes), chance) if chance < _CHANCE else None


def _by_round(births: npt.NDArray[np.uint64], edges: npt.NDArray[np.uint64]) -> list[npt.NDArray[np.uint64]]:
    """Births of each round, from its edge up to the next."""
    births = np.sort(births)
    cuts = np.searchsorted(births, edges, side="left")
    return [births[start:end] for start, end in pairwise(cuts)]
