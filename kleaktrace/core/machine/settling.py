# SPDX-License-Identifier: GPL-2.0-or-later
"""How long to wait for frees that are on their way, before what is still outstanding counts as left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

LEAST_S = 6.0
"""kfree_rcu collects for up to 5 s (kernel/rcu/tree.c, KFREE_DRAIN_JIFFIES) and then waits for a grace period."""
QUIET_S = 2.0
"""If nothing has gone for so long, no more is coming: chains of callbacks and delayed work free one after the other."""
MOST_S = 20.0
"""What is freed later than this is up to a timer of its own, and may as well be kept on purpose."""


class Level(NamedTuple):
    """At a time (s, any clock that only goes forward), how many candidates for a leak were outstanding."""

    time_s: float
    left: int


@dataclass(frozen=True, slots=True)
class Settled:
    """How long was waited (s), how many of the candidates were freed meanwhile, and how many are left."""

    seconds: float
    freed: int
    left: int

    def __str__(self) -> str:
        if not self.seconds:
            return "nothing to wait for"
        return f"waited {self.seconds:.1f} s for RCU and work queues: {self.freed:,} freed meanwhile"


def is_settled(looks: Sequence[Level]) -> bool:
    """Whether to stop waiting, by the looks so far, in order. The first is from when the waiting began.

    At once when nothing is left; else not before LEAST_S, nor before none has gone for QUIET_S, but after MOST_S.
    """
    if not looks:
        return False
    first, last = looks[0], looks[-1]
    if not last.left:
        return True
    waited_s = last.time_s - first.time_s
    went_s = max((now.time_s for before, now in pairwise(looks) if now.left < before.left), default=first.time_s)
    return waited_s >= MOST_S or (waited_s >= LEAST_S and last.time_s - went_s >= QUIET_S)


def settled(looks: Sequence[Level]) -> Settled:
    """What the waiting came to. There is one look at least."""
    freed = sum(max(before.left - now.left, 0) for before, now in pairwise(looks))
    return Settled(looks[-1].time_s - looks[0].time_s, freed, looks[-1].left)
