# SPDX-License-Identifier: GPL-2.0-or-later
"""Who allocates and frees how fast: the difference between two looks at the books."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.ledger.stack_counters import StackSnapshot


@dataclass(frozen=True, slots=True)
class Rate:
    """Per second: allocations, frees (implied ones included), and bytes by which the outstanding set grew."""

    allocations: float
    frees: float
    net_bytes: float


@dataclass(frozen=True)
class CounterSnapshot:
    """The counters of every stack at one moment (ns, CLOCK_MONOTONIC)."""

    time_ns: int
    snapshot: StackSnapshot | None
    numbers: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def at(cls, time_ns: int, snapshot: StackSnapshot) -> CounterSnapshot:
        """A look with the stacks' places in the snapshot, for looking them up."""
        return cls(time_ns, snapshot, {key: number for number, key in enumerate(snapshot.stacks.tolist())})

    @classmethod
    def empty(cls, time_ns: int) -> CounterSnapshot:
        """Before anything was counted."""
        return cls(time_ns, None)

    def sums(self, keys: Sequence[int]) -> tuple[float, float, float]:
        """Allocations, frees and net bytes so far of these stacks together."""
        if self.snapshot is None:
            return 0.0, 0.0, 0.0
        at = np.array([self.numbers[key] for key in keys if key in self.numbers], np.int64)
        snapshot = self.snapshot
        return (
            float(snapshot.allocations[at].sum()),
            float(snapshot.frees[at].sum() + snapshot.implied_frees[at].sum()),
            float(snapshot.outstanding_bytes[at].sum()),
        )


def rates(groups: Sequence[AllocationGroup], before: CounterSnapshot, now: CounterSnapshot) -> list[Rate]:
    """The rate of each group between two looks. All events of a group's stacks count for it."""
    seconds = max((now.time_ns - before.time_ns) / 1e9, 1e-9)
    found = []
    for group in groups:
        old, new = before.sums(group.stack_keys), now.sums(group.stack_keys)
        found.append(Rate(*((b - a) / seconds for a, b in zip(old, new, strict=True))))
    return found
