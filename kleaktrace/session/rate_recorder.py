# SPDX-License-Identifier: GPL-2.0-or-later
"""Records while a session runs what rates need: counts by group, and what the machine itself uses."""

from __future__ import annotations

from kleaktrace.core.events.records import Batch
from kleaktrace.core.grouping.group_labels import GroupBy, StackLabels
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.rates.event_group_counter import GroupCounter
from kleaktrace.core.rates.rate_table import CountedGroups, MachineHistory, RateTable, reclaimable_stacks
from kleaktrace.edge.machine.meminfo import CgroupPaths, memory_in_use
from kleaktrace.session.session import Session


class RateRecorder:
    """An observer of one session, for rates by one kind of group.

    unreclaimable: what the kernel takes back by itself is left out of the groups.
    """

    def __init__(self, by: GroupBy, unreclaimable: bool = False) -> None:
        self._by, self._unreclaimable = by, unreclaimable
        self._counter = None if by.by_stack else GroupCounter(by)
        self._history = LevelHistory()
        self._machine = MachineHistory()
        self._cgroups = CgroupPaths()
        self._stack_labels: StackLabels | None = None

    def batch(self, batch: Batch) -> None:
        """Count it."""
        if self._counter is not None:
            self._counter.add(batch)

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """Add to the histories."""
        if self._machine.due(time_ns):
            self._machine.sample(time_ns, memory_in_use())
        if self._counter is not None and self._history.due(time_ns):
            self._history.sample(time_ns, self._counter.snapshot(ledger.outstanding()))

    def table(self, session: Session, top: int) -> RateTable:
        """The `top` groups as of now. Raises `EvidenceLost` if draining has failed."""
        if self._by is GroupBy.CGROUP:
            self._cgroups.look()
        with session.looking() as recording:
            ledger, names = recording.ledger, recording.names
            if self._counter is not None:
                labels = self._counter.labels(names, self._cgroups.path)
                counted = CountedGroups(self._by, labels, self._counter.snapshot(ledger.outstanding()), self._history)
                if self._unreclaimable:
                    counted = counted.without(self._counter.reclaimable(names))
            else:
                if self._stack_labels is None:
                    self._stack_labels = StackLabels(self._by, names.stacks.get)
                books = ledger.snapshot()
                counted = CountedGroups(self._by, self._stack_labels.of(books.stacks), books, recording.history)
                if self._unreclaimable:
                    counted = counted.without(reclaimable_stacks(ledger, names))
            return RateTable.of(counted, recording, self._machine, top)
