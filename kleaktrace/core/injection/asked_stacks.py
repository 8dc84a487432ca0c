# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process asked for, by call stack: what should fail, where allocations fail by number and not by call stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleaktrace.core.events.records import Batch, Kind, Rows, context_told, may_be_task
from kleaktrace.core.evidence.injected_runs import FailedAllocation
from kleaktrace.core.grouping.group_labels import INTERRUPTS
from kleaktrace.core.injection.failed_stacks import asking_frames, modules_of
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.call_stacks import module_line, module_of
from kleaktrace.core.symbols.kernel_names import KernelNames

_NOWARN, _NOFAIL = 0x2000, 0x8000  # ___GFP_NOWARN and ___GFP_NOFAIL since v4.13 (include/linux/gfp_types.h)
_NEVER_FAILS = "kmem_cache"
"""The cache of the caches themselves (mm/failslab.c)."""


@dataclass(frozen=True, slots=True)
class _First:
    """When a call stack was first seen to ask a cache for something, and for how much."""

    time_ns: int
    bytes: int
    context: int


class AskedStacks:
    """An observer of a session (session/drain.py): keeps what each process asks for, until `enough`."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int, int], _First] = {}
        """By process, call stack and cache."""
        self._enough = False
        self._names: KernelNames | None = None

    def begin(self, names: KernelNames) -> None:
        """As `Observer` has it."""
        self._names = names

    def enough(self) -> None:
        """Keep nothing more."""
        self._enough = True

    def batch(self, batch: Batch) -> None:
        """Keep what is new of a batch."""
        if self._enough:
            return
        rows = batch.allocations[_can_fail(batch.allocations)]
        for row in rows[np.unique(rows[["tgid", "stack", "cache"]], return_index=True)[1]]:
            key = int(row["tgid"]), int(row["stack"]), int(row["cache"])
            self._first.setdefault(key, _First(int(row["time_ns"]), int(row["bytes_req"]), int(row["context"])))

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """Nothing to do."""

    def of(self, pid: int, module: str | None) -> list[FailedAllocation]:
        """What this process has asked for through a module (None: any) and that could fail, in the order of time."""
        assert self._names is not None, "nothing can have been asked before it began"
        names = self._names
        found: list[FailedAllocation] = []
        for (tgid, key, cache), first in sorted(self._first.items(), key=lambda item: item[1].time_ns):
            if tgid != pid or (cache in names.caches and names.caches[cache].name == _NEVER_FAILS):
                continue
            named = names.stacks.get(key)
            if context_told(first.context, named.context) in INTERRUPTS:
                continue
            stack = tuple(map(str, asking_frames(named.frames)))
            if (module in modules_of(stack)) if module else module_line(stack):
                found.append(FailedAllocation(first.time_ns, stack, first.bytes))
        return found


def _can_fail(rows: Rows) -> npt.NDArray[np.bool_]:
    """What the kernel asks should_failslab() or should_fail_alloc_page() about in a task (lib/fault-inject.c).

    And tells of in its log: what fails with __GFP_NOWARN would never be seen to.
    """
    loud = rows["gfp_flags"] & (_NOWARN | _NOFAIL) == 0
    can: npt.NDArray[np.bool_] = loud & may_be_task(rows) & ~np.isin(rows["kind"], (Kind.PERCPU, Kind.PAGES))
    return can


def path_through_modules(stack: Sequence[str]) -> tuple[str, ...]:
    """A call stack from the code that asked to the outermost frame of a module: by that, two are the same.

    What lies further out, the kernel's log and our programs need not tell alike.
    """
    last = max((place for place, line in enumerate(stack, start=1) if module_of(line)), default=0)
    return tuple(stack[:last])


def paths_through_modules(allocations: Iterable[FailedAllocation]) -> set[tuple[str, ...]]:
    """Those of all that go through one."""
    return {path for one in allocations if (path := path_through_modules(one.stack))}


def each_path_once(allocations: Iterable[FailedAllocation]) -> list[FailedAllocation]:
    """The first of each call stack through modules."""
    found: dict[tuple[str, ...], FailedAllocation] = {}
    for one in allocations:
        found.setdefault(path_through_modules(one.stack), one)
    return [one for path, one in found.items() if path]


def passed_over(asked: Sequence[FailedAllocation], failed: Iterable[FailedAllocation]) -> list[FailedAllocation]:
    """Of what was asked for, what was not seen to fail."""
    seen = paths_through_modules(failed)
    return [one for one in asked if path_through_modules(one.stack) not in seen]


def numbers_near(by_number: Mapping[int, FailedAllocation], around: int) -> list[int]:
    """The numbers of allocations, from 1, near those that came from modules.

    If there are none, all numbers: each of them may have been passed over.
    """
    calls = [number for number, one in by_number.items() if path_through_modules(one.stack)]
    near = {number + away for number in calls for away in range(-around, around + 1)}
    return sorted(number for number in near if number > 0) or sorted(by_number)
