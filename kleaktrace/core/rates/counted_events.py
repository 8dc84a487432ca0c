# SPDX-License-Identifier: GPL-2.0-or-later
"""Rates by what only events tell, of a session whose every event was kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kleaktrace.core.events.records import Batch, Rows
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.rates.event_group_counter import GroupCounter
from kleaktrace.core.rates.rate_table import CountedGroups
from kleaktrace.core.symbols.kernel_names import KernelNames


def counted_events(
    batches: Iterable[Batch], by: GroupBy, names: KernelNames, cgroup_path: Callable[[int], str], unreclaimable: bool
) -> CountedGroups:
    """Count batches of events, which come as they came to the session, by comm, process, cgroup or cache.

    unreclaimable: without what the kernel takes back by itself. Levels are sampled at the times of the events.
    """
    ledger, counter, history = Ledger(), GroupCounter(by), LevelHistory()
    for batch in batches:
        ledger.apply(batch)
        counter.add(batch)
        time_ns = max(_newest_ns(batch.allocations), _newest_ns(batch.frees))
        if history.due(time_ns):
            history.sample(time_ns, counter.snapshot(ledger.outstanding()))
    counters = counter.snapshot(ledger.outstanding())
    counted = CountedGroups(by, counter.labels(names, cgroup_path), counters, history)
    return counted.without(counter.reclaimable(names)) if unreclaimable else counted


def _newest_ns(rows: Rows) -> int:
    return int(rows["time_ns"].max(initial=0))
