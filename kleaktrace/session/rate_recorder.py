# SPDX-License-Identifier: GPL-2.0-or-later
"""Records while a session runs what rates need: counts by group, and what the machine itself uses."""

from __future__ import annotations

from kleaktrace.core.events.records import Batch
from kleaktrace.core.grouping.group_labels import GroupBy, StackLabels
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.rates.counted_events import CountedEvents
from kleaktrace.core.rates.rate_table import MachineHistory, RateTable, counted_stacks
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.edge.machine.meminfo import CgroupPaths, memory_in_use
from kleaktrace.session.session import Session


class RateRecorder:
    """An observer of one session, for rates by one kind of group.

    unreclaimable: what the kernel takes back by itself is left out of the groups.
    """

    def __init__(self, by: GroupBy, unreclaimable: bool = False) -> None:
        self._by, self._unreclaimable = by, unreclaimable
        self._events: CountedEvents | None = None
        self._machine = MachineHistory()
        self._cgroups = CgroupPaths()
        self._stack_labels: StackLabels | None = None

    def begin(self, names: KernelNames) -> None:
        """As `Observer` has it."""
        if not self._by.by_stack:
            self._events = CountedEvents(self._by, names)

    def batch(self, batch: Batch) -> None:
        """Count it."""
        if self._events is not None:
            self._events.add(batch)

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """Add to the histories."""
        if self._machine.due(time_ns):
            self._machine.sample(time_ns, memory_in_use())
        if self._events is not None:
            self._events.sample(time_ns, ledger)

    def table(self, session: Session, top: int) -> RateTable:
        """The `top` groups as of now. Raises as `Session.looking` does if draining has failed."""
        if self._by is GroupBy.CGROUP:
            self._cgroups.look()
        with session.looking() as recording:
            ledger, names = recording.ledger, recording.names
            if self._events is not None:
                counted = self._events.counted(ledger, self._cgroups.path, self._unreclaimable)
            else:
                self._stack_labels = self._stack_labels or StackLabels(self._by, names.stacks.get)
                counted = counted_stacks(recording, self._by, self._stack_labels, self._unreclaimable)
            return RateTable.of(counted, recording, self._machine, top)
