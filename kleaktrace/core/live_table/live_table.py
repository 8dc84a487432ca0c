# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at what is outstanding, group by group, with how it went lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kleaktrace.core.arrays.types import F64, U64, Index, Mask
from kleaktrace.core.events.records import Rows
from kleaktrace.core.grouping.group_labels import GroupBy, label
from kleaktrace.core.grouping.outstanding_groups import CgroupPath, named_rows
from kleaktrace.core.ledger.tally import Tally
from kleaktrace.core.live_table.numbered_groups import NumberedGroups
from kleaktrace.core.symbols.kernel_names import KernelNames

LOOKS_KEPT = 24
"""Of the past; 8 bytes a group each."""

_RATE_NS = 4_500_000_000
"""Rates are over the last looks of about five seconds: over one second, they would jump."""

_DESCRIBED = 64
"""So many of a group's largest kinds of allocations are put in words: more names than these nobody reads."""

_NAMED = 3

_WORN_OUT, _TIMES_WORN_OUT = 1 << 17, 8
"""Kinds of rows, and how many times those that are left: what is gone is worth forgetting then."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which allocations are counted: by what, how old at least (s), and made since when (ns); None: ever.

    unreclaimable: without what the kernel takes back by itself when memory is short.
    """

    by: GroupBy = GroupBy.STACK
    older_s: float = 0.0
    since_ns: int | None = None
    unreclaimable: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """Outstanding bytes by group at one time (ns). Groups that came later have no place, and had nothing."""

    time_ns: int
    bytes: F64

    def of(self, group: int) -> float:
        """Those of one group."""
        return float(self.bytes[group]) if group < self.bytes.size else 0.0


@dataclass(frozen=True, slots=True)
class TableRow:
    """One group as it is shown. Names are as they came from the kernel.

    label: what the group is called; of a call stack, who asked. what: caches, contexts and comms, where the label does
    not tell. net_bytes: by which it grew a second lately; None: not known yet. levels: outstanding bytes at the last
    looks, oldest first.
    """

    group: int
    label: str
    what: str
    count: int
    bytes: int
    net_bytes: float | None
    oldest_ns: int
    levels: tuple[float, ...]
    reclaimable: bool


@dataclass(frozen=True)
class TableLook:
    """All groups at one time (ns, CLOCK_MONOTONIC). Arrays go by the group's number; a group may be empty by now."""

    asked: Asked
    time_ns: int
    groups: NumberedGroups
    rows: Rows
    """OUTSTANDING rows, one for each kind of allocation; `group_of_row` and `row_bytes` run parallel."""
    group_of_row: Index
    row_bytes: F64
    counts: F64
    bytes: F64
    oldest_ns: U64
    reclaimable: Mask
    levels: Sequence[Level]
    """Those of the last looks, oldest first, this one included."""
    names: KernelNames

    @cached_property
    def net_bytes(self) -> F64:
        """Bytes by which each group grew a second lately; NaN: there was no look before."""
        before = next((level for level in self.levels[:-1] if self.time_ns - level.time_ns <= _RATE_NS), None)
        if before is None:
            before = self.levels[-2] if len(self.levels) > 1 else None
        if before is None:
            return np.full(self.bytes.size, np.nan)
        grown = self.bytes.copy()
        grown[: before.bytes.size] -= before.bytes
        return grown / max((self.time_ns - before.time_ns) / 1e9, 1e-9)

    def row(self, group: int) -> TableRow:
        """A group in words."""
        net, by = float(self.net_bytes[group]), self.asked.by
        known = self.groups.labels[group][0]
        return TableRow(
            group=group,
            label=label(self.groups.heads[group].stack, GroupBy.REQUESTER) if by is GroupBy.STACK else known,
            what=self._what(group) if by in (GroupBy.STACK, GroupBy.REQUESTER) else "",
            count=int(self.counts[group]),
            bytes=int(self.bytes[group]),
            net_bytes=None if np.isnan(net) else net,
            oldest_ns=int(self.oldest_ns[group]),
            levels=tuple(level.of(group) for level in self.levels),
            reclaimable=bool(self.reclaimable[group]),
        )

    def largest_rows(self, group: int) -> Rows:
        """The kinds of allocations that hold most of a group, largest first."""
        places = np.flatnonzero(self.group_of_row == group)
        most = np.argsort(-self.row_bytes[places], kind="stable")[:_DESCRIBED]
        return self.rows[places[most]]

    def _what(self, group: int) -> str:
        rows = named_rows(self.largest_rows(group), self.names)
        contexts = [row.context.name.lower() for row in rows]
        names = ([row.cache for row in rows], contexts, [row.comm for row in rows])
        return ", ".join(_joined(some) for some in names if any(some))


def _joined(names: Sequence[str]) -> str:
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:_NAMED]) + (", …" if len(listed) > _NAMED else "")


class LiveTable:
    """The looks at what one reader asked for. What was never seen before costs words, the rest a few array passes."""

    def __init__(self, asked: Asked, names: KernelNames, cgroup_path: CgroupPath | None = None) -> None:
        self.asked = asked
        self._names, self._cgroup_path = names, cgroup_path
        self._groups = NumberedGroups(asked.by, names, cgroup_path)
        self._levels: deque[Level] = deque(maxlen=LOOKS_KEPT)

    def look(self, time_ns: int, counted: Tally) -> TableLook:
        """The groups of what was counted; it must have been counted by the process, age and time that `asked` says."""
        if self._groups.kinds > max(_WORN_OUT, _TIMES_WORN_OUT * counted.rows.size):
            self._groups = NumberedGroups(self.asked.by, self._names, self._cgroup_path)
            self._levels.clear()
        reclaimable = self._names.reclaimable(counted.rows)
        if self.asked.unreclaimable:
            counted, reclaimable = counted.only(~reclaimable), reclaimable[~reclaimable]
        groups = self._groups.of(counted.rows)
        many = len(self._groups)
        sizes = np.bincount(groups, counted.bytes, many).astype(np.float64)
        kept = np.bincount(groups, ~reclaimable, many)
        counts = np.bincount(groups, counted.counts, many).astype(np.float64)
        oldest_ns = np.full(many, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(oldest_ns, groups, counted.oldest_ns)
        self._levels.append(Level(time_ns, sizes))
        return TableLook(
            asked=self.asked,
            time_ns=time_ns,
            groups=self._groups,
            rows=counted.rows,
            group_of_row=groups,
            row_bytes=counted.bytes,
            counts=counts,
            bytes=sizes,
            oldest_ns=oldest_ns,
            reclaimable=(kept == 0) & (counts > 0),
            levels=tuple(self._levels),
            names=self._names,
        )
