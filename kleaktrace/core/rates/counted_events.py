# SPDX-License-Identifier: GPL-2.0-or-later
"""Rates by what only events tell: counted while a session runs, or of one whose every event was kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kleaktrace.core.events.records import Batch, Rows
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.rates.event_group_counter import GroupCounter
from kleaktrace.core.rates.rate_table import CountedGroups
from kleaktrace.core.symbols.kernel_names import KernelNames


class CountedEvents:
    """Counters of the groups that events tell of, by comm, process, cgroup or cache, and how their levels went."""

    def __init__(self, by: GroupBy, names: KernelNames) -> None:
        self._counter = GroupCounter(by, lambda stack: names.stacks.get(stack).context)
        self._names = names
        self._history = LevelHistory()

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self._counter.add(batch)

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """Add to the levels, if it is time to."""
        if self._history.due(time_ns):
            self._history.sample(time_ns, self._counter.snapshot(ledger.outstanding()))

    def counted(self, ledger: Ledger, cgroup_path: Callable[[int], str], unreclaimable: bool) -> CountedGroups:
        """What there is by now. unreclaimable: without what the kernel takes back by itself."""
        counter = self._counter
        counters = counter.snapshot(ledger.outstanding())
        counted = CountedGroups(counter.by, counter.labels(self._names, cgroup_path), counters, self._history)
        return counted.without(counter.reclaimable(self._names)) if unreclaimable else counted


def counted_again(
    batches: Iterable[Batch], by: GroupBy, names: KernelNames, cgroup_path: Callable[[int], str], unreclaimable: bool
) -> CountedGroups:
    """Count batches that come as they came to the session; levels are sampled at the times of the events."""
    ledger, events = Ledger(), CountedEvents(by, names)
    for batch in batches:
        ledger.apply(batch)
        events.add(batch)
        events.sample(max(_newest_ns(batch.allocations), _newest_ns(batch.frees)), ledger)
    return events.counted(ledger, cgroup_path, unreclaimable)


def _newest_ns(rows: Rows) -> int:
    return int(rows["time_ns"].max(initial=0))
