# SPDX-License-Identifier: GPL-2.0-or-later
"""Who allocates and frees how fast, and how fast what they hold grows, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.grouping.group_labels import GroupBy, StackLabels
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.growth.level_history import LevelHistory, StartUp
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.stack_counters import StackSnapshot
from kleaktrace.core.symbols.kernel_names import KernelNames

_CANDIDATES = 10
"""For each row asked for, so many groups have their interval taken: those that hold the most."""

_FEWEST_CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class GroupRate:
    """One group. Rates are per second since tracing began; `net_bytes` is the lasting growth of what is outstanding."""

    label: str
    allocations: float
    frees: float
    """Implied ones included."""
    net_bytes: Interval
    outstanding: int
    outstanding_bytes: int


def rates_by_group(
    labels: Sequence[str], snapshot: StackSnapshot, seconds: float, history: LevelHistory, top: int
) -> list[GroupRate]:
    """Return the `top` groups that grow fastest, and of equals those that hold most.

    `labels` say for each place of the snapshot to which group it belongs. Tracing began so many seconds ago, with
    nothing in the books. Of a great many groups, those that hold little are left out before anything is estimated.
    """
    places: dict[str, list[int]] = {}
    for place in np.flatnonzero(snapshot.allocations).tolist():
        places.setdefault(labels[place], []).append(place)
    held = {label: int(snapshot.outstanding_bytes[own].sum()) for label, own in places.items()}
    largest = sorted(places, key=lambda label: (-held[label], label))[: max(_CANDIDATES * top, _FEWEST_CANDIDATES)]
    found = [_rate(label, np.array(places[label]), snapshot, seconds, history) for label in largest]
    return sorted(found, key=lambda rate: (-rate.net_bytes.estimate, -rate.outstanding_bytes, rate.label))[:top]


def _rate(
    label: str, own: npt.NDArray[np.intp], snapshot: StackSnapshot, seconds: float, history: LevelHistory
) -> GroupRate:
    def sum_of(column: U64) -> int:
        return int(column[own].sum())

    return GroupRate(
        label=label,
        allocations=sum_of(snapshot.allocations) / seconds,
        frees=(sum_of(snapshot.frees) + sum_of(snapshot.implied_frees)) / seconds,
        net_bytes=history.interval(snapshot.stacks[own].tolist()),
        outstanding=sum_of(snapshot.outstanding),
        outstanding_bytes=sum_of(snapshot.outstanding_bytes),
    )


MACHINE_COUNTERS = ("Slab", "SReclaimable", "SUnreclaim", "VmallocUsed", "Percpu")
"""Lines of /proc/meminfo: all slab pages and large kmallocs, those that shrinkers give back and those that none does,
vmalloc, per-CPU."""

_TRACED_BY_MACHINE = ("Slab", "VmallocUsed", "Percpu")


class MachineHistory:
    """What the machine itself says it uses (bytes), sampled as the ledger is."""

    def __init__(self) -> None:
        self._history = LevelHistory()

    def due(self, time_ns: int) -> bool:
        """Whether a sample of this time would be kept."""
        return self._history.due(time_ns)

    @property
    def times_ns(self) -> tuple[int, ...]:
        """When the samples that are kept were taken."""
        return self._history.times_ns

    def sample(self, time_ns: int, used: Mapping[str, int]) -> None:
        """Remember `MACHINE_COUNTERS` at this time; one that this kernel does not have counts as nothing."""
        levels = [used.get(name, 0) for name in MACHINE_COUNTERS]
        self._history.sample(time_ns, _levels([*levels, sum(used.get(name, 0) for name in _TRACED_BY_MACHINE)]))

    def growth(self) -> dict[str, Interval]:
        """Bytes a second by counter."""
        return {name: self._history.interval([number]) for number, name in enumerate(MACHINE_COUNTERS, start=1)}

    def whole_growth(self) -> Interval:
        """Bytes a second of all that an allocator we trace has taken."""
        return self._history.interval([len(MACHINE_COUNTERS) + 1])


def _levels(levels: Sequence[int]) -> StackSnapshot:
    nothing = np.zeros(len(levels), np.uint64)
    return StackSnapshot(
        stacks=np.arange(1, len(levels) + 1, dtype=np.uint64),
        allocations=nothing,
        frees=nothing,
        implied_frees=nothing,
        bytes_allocated=np.array(levels, np.uint64),
        bytes_closed=nothing,
    )


@dataclass(frozen=True, slots=True)
class CountedGroups:
    """Counters and levels of what is grouped, and for each place of theirs the label of its group."""

    by: GroupBy
    labels: Sequence[str]
    counters: StackSnapshot
    history: LevelHistory

    def without(self, stacks: U64) -> CountedGroups:
        """The same without these places, by their keys."""
        left = np.flatnonzero(~np.isin(self.counters.stacks, stacks))
        return replace(self, labels=[self.labels[place] for place in left.tolist()], counters=self.counters.at(left))


def counted_stacks(recording: Recorded, by: GroupBy, labels: StackLabels, unreclaimable: bool) -> CountedGroups:
    """What is grouped by call stack. unreclaimable: without what the kernel takes back by itself."""
    books = recording.ledger.snapshot()
    counted = CountedGroups(by, labels.of(books.stacks), books, recording.history)
    return counted.without(reclaimable_stacks(recording.ledger, recording.names)) if unreclaimable else counted


class Recorded(Protocol):
    """What a recording has that rates are made of."""

    @property
    def ledger(self) -> Ledger:
        """The books."""

    @property
    def names(self) -> KernelNames:
        """Of what is in them."""

    @property
    def history(self) -> LevelHistory:
        """Of what was outstanding, by stack."""

    @property
    def loss(self) -> Loss:
        """What was lost."""

    @property
    def seconds(self) -> float:
        """How long it lasted."""


@dataclass(frozen=True, slots=True)
class RateTable:
    """Rates since tracing began, and what the machine says about the same time. All growth is in bytes a second."""

    by: GroupBy
    seconds: float
    groups: Sequence[GroupRate]
    traced: Interval
    """Of all that was traced."""
    start_up: StartUp
    """What of it is left out of `traced`."""
    reclaimable: Interval
    """Of what of it the kernel takes back by itself when memory is short."""
    machine: Mapping[str, Interval]
    machine_whole: Interval
    """Of slab, vmalloc and per-CPU memory together."""
    unknown_frees: float
    """Frees a second of what was allocated before tracing: they shrink the machine, but nothing that was traced."""
    lost: int
    """Events."""

    def first(self, top: int) -> RateTable:
        """The same with fewer groups."""
        return replace(self, groups=self.groups[:top])

    @classmethod
    def of(cls, counted: CountedGroups, recording: Recorded, machine: MachineHistory, top: int) -> RateTable:
        """The `top` groups of what was recorded."""
        ledger, seconds, history = recording.ledger, recording.seconds, recording.history
        traced = history.series(ledger.snapshot().stacks.tolist())
        return cls(
            by=counted.by,
            seconds=seconds,
            groups=rates_by_group(counted.labels, counted.counters, seconds, counted.history, top),
            traced=traced.interval,
            start_up=traced.start_up,
            reclaimable=history.interval(reclaimable_stacks(ledger, recording.names).tolist()),
            machine=machine.growth(),
            machine_whole=machine.whole_growth(),
            unknown_frees=ledger.totals().unknown_frees / seconds,
            lost=recording.loss.events,
        )

    @property
    def explained(self) -> Interval | None:
        """The share of the machine's growth that was traced; None if the machine does not clearly grow."""
        return explained(self.traced, self.machine_whole)


def reclaimable_stacks(ledger: Ledger, names: KernelNames) -> U64:
    """The keys of stacks whose outstanding allocations the kernel takes back by itself (`KernelNames.reclaimable`).

    One that allocates both kinds is none of these.
    """
    rows = ledger.tally().rows
    lasting = ~names.reclaimable(rows)
    found: U64 = np.setdiff1d(rows["stack"], rows["stack"][lasting])
    return found


def explained(traced: Interval, machine: Interval) -> Interval | None:
    """What share of the machine's growth that of what was traced is; None if the machine does not clearly grow.

    The ends hold where both of the others do, so that they are further apart than need be.
    """
    if not machine.low > 0:
        return None
    shares = [end / other for end in (traced.low, traced.high) for other in (machine.low, machine.high)]
    return Interval(traced.estimate / machine.estimate, min(shares), max(shares))
