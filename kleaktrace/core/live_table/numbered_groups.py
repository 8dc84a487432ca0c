# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups of outstanding allocations that keep their numbers from one look to the next."""

from __future__ import annotations

import numpy as np

from kleaktrace.core.arrays.hash_index import Interner
from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.events.records import Rows
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.grouping.outstanding_groups import (
    CgroupPath,
    GroupLabel,
    NamedRow,
    group_label,
    named_rows,
    telling_words,
)
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING
from kleaktrace.core.ledger.tally import alike_words
from kleaktrace.core.symbols.kernel_names import KernelNames


class NumberedGroups:
    """Numbers groups 0, 1, 2, … as they first appear. Only what was never seen before is put in words.

    One thread calls `of`; others may read `labels` and `heads` meanwhile, which only grow.
    """

    def __init__(self, by: GroupBy, names: KernelNames, cgroup_path: CgroupPath | None = None) -> None:
        self.by = by
        self.labels: list[GroupLabel] = []
        self.heads: list[NamedRow] = []
        """The first allocation of each group."""
        self._names, self._cgroup_path = names, cgroup_path
        self._kinds = Interner(words=len(_words(np.zeros(0, OUTSTANDING), by)))
        self._group_of_kind = np.zeros(0, np.intp)
        self._numbers: dict[GroupLabel, int] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def kinds(self) -> int:
        """How many kinds of rows were told apart so far; what is held goes by it."""
        return len(self._kinds)

    @property
    def stacks(self) -> tuple[Index, U64]:
        """Which group has allocations of which call stack (its key): groups and keys run parallel, and may repeat."""
        return self._group_of_kind, self._kinds.word(0)[: self._group_of_kind.size]

    def of(self, rows: Rows) -> Index:
        """The group of each of the OUTSTANDING rows."""
        kinds = self._kinds.intern(*_words(rows, self.by))
        known = self._group_of_kind.size
        if len(self._kinds) > known:
            later = np.flatnonzero(kinds >= known)
            new = later[np.unique(kinds[later], return_index=True)[1]]
            self._group_of_kind = np.concatenate([self._group_of_kind, self._number(rows[new])])
        return self._group_of_kind.take(kinds)

    def _number(self, rows: Rows) -> Index:
        numbers = []
        for row in named_rows(rows, self._names, with_text=self.by is GroupBy.STACK):
            label = group_label(row, self.by, self._cgroup_path)
            number = self._numbers.setdefault(label, len(self._numbers))
            if number == len(self.labels):
                self.heads.append(row)
                self.labels.append(label)
            numbers.append(number)
        return np.array(numbers, np.intp)


def _words(rows: Rows, by: GroupBy) -> tuple[U64, ...]:
    return (*alike_words(rows), *telling_words(rows, by))
