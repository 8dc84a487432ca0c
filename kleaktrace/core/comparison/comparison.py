# SPDX-License-Identifier: GPL-2.0-or-later
"""What a comparison of two recordings says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kleaktrace.core.comparison.common_stacks import CompareBy
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.report import Kernel
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.core.tables.stack_rows import StackVerdict


class ChangeKind(StrEnum):
    """What became of what a stack has left outstanding. New: nothing was before; gone: nothing is after."""

    NEW = "new"
    GONE = "gone"
    GROWN = "grown"
    SHRUNK = "shrunk"


class Because(StrEnum):
    """Why a change is one. The values are part of the JSON document."""

    LEAK = "leak"
    """Confirmed in one of the recordings, and not in the other."""
    MODULE = "module"
    """Of a module that was loaded or unloaded in one of them, and of which the other has seen nothing."""
    COUNTS = "counts"
    """The interval of the difference does not reach to 0."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What a stack has left outstanding in one recording (bytes as allocated), and how often it allocated in all.

    verdict: the worst that is said of it; None: the recording does not have it.
    """

    objects: int
    bytes: int
    allocations: int
    verdict: StackVerdict | None


@dataclass(frozen=True, slots=True)
class Change:
    """One call stack.

    frames: innermost first, of which `requester_at` is the number of the one that asked for the memory; lines: the
    same in words. objects, bytes: by how much more it leaves than before, over a window as long as that of the
    second recording, with intervals that hold for all stacks at once. bytes_per_unit: the same by second or
    operation. kept: why it is kept on purpose, empty: nothing says so. held: who may hold it.
    """

    key: str
    frames: tuple[Frame, ...]
    requester_at: int
    lines: tuple[str, ...]
    kind: ChangeKind
    because: tuple[Because, ...]
    before: Amount
    after: Amount
    objects: Interval
    bytes: Interval
    bytes_per_unit: Interval
    cache: str
    context: str
    comm: str
    kept: str = ""
    held: str = ""

    @property
    def is_new_leak(self) -> bool:
        """Whether it is a leak that is confirmed now, and was not before."""
        return Because.LEAK in self.because and self.after.verdict is StackVerdict.CONFIRMED


@dataclass(frozen=True, slots=True)
class Side:
    """One of the recordings. units: how many seconds or operations it is about; seconds: how long it is."""

    kernel: Kernel
    started: datetime
    seconds: float
    units: float
    verdict: str
    lost: int
    gaps: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """The changes, first new leaks, then by how much there is more; those that are kept on purpose apart.

    compared: how many stacks had anything outstanding. hidden: those of which the lost events alone are why they are
    within the interval, as changes. not_comparable: what only one of the two could see. undecided: keys of stacks that
    have suspects of which it is not known whether they leaked, in the second only. nameless_leaks: confirmed objects of
    the second without a call stack, so that nobody can say whether they are new.
    """

    by: CompareBy
    unit: str
    before: Side
    after: Side
    compared: int
    changes: Sequence[Change]
    kept: Sequence[Change]
    hidden: Sequence[Change] = ()
    not_comparable: Sequence[str] = ()
    undecided: Sequence[str] = ()
    nameless_leaks: int = 0

    @property
    def within(self) -> int:
        """How many stacks are within the interval."""
        return self.compared - len(self.changes) - len(self.kept)


@dataclass(frozen=True, slots=True)
class Operations:
    """How many operations each of the recordings is about."""

    before: float
    after: float
