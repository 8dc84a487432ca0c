# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of one row of the table: its call stack, and what became of others from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.evidence.evidence import JudgedSuspect
from kleaktrace.core.evidence.lifetimes import Lifetimes
from kleaktrace.core.evidence.stack_evidence import Siblings, site_words
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.stack_counters import StackStatistics
from kleaktrace.core.live_table.live_table import TableLook
from kleaktrace.core.live_table.stack_verdicts import StackVerdicts
from kleaktrace.core.symbols.kernel_names import KernelNames

_MOST_KEYS = 64


@dataclass(frozen=True, slots=True)
class GroupDetails:
    """One group.

    stack: of its largest allocations, innermost frame first; stacks: how many different ones there are, by their keys,
    up to 64. siblings, lifetimes: of all from this stack, since tracing began. suspects: those that a scan listed of
    this group's stacks; scanned: whether there was any scan.
    """

    group: int
    stack: tuple[str, ...]
    stacks: int
    siblings: Siblings
    lifetimes: Lifetimes
    suspects: Sequence[JudgedSuspect]
    scanned: bool


def group_details(
    look: TableLook, group: int, ledger: Ledger, names: KernelNames, verdicts: StackVerdicts
) -> GroupDetails:
    """What is known of a group. Nothing may be added to the ledger meanwhile."""
    keys = list(dict.fromkeys(look.largest_rows(group)["stack"].tolist())) or [look.groups.heads[group].key]
    lines = tuple(names.stacks.get(keys[0]).lines())
    same = [key for key in keys[:_MOST_KEYS] if tuple(names.stacks.get(key).lines()) == lines]
    statistics = ledger.stack_statistics(same)
    return GroupDetails(
        group=group,
        stack=lines,
        stacks=len(keys) - len(same) + 1,
        siblings=siblings_of(statistics, names),
        lifetimes=Lifetimes.of(statistics),
        suspects=verdicts.of_stacks(np.array(keys, np.uint64)),
        scanned=verdicts.scanned,
    )


def siblings_of(statistics: Sequence[StackStatistics], names: KernelNames) -> Siblings:
    """All from several stacks that are one to a reader."""
    sites: dict[str, int] = {}
    for site, count in (pair for one in statistics for pair in one.free_sites):
        place = site_words(names, site)
        sites[place] = sites.get(place, 0) + count
    return Siblings.of(statistics, sorted(sites.items(), key=lambda pair: -pair[1]))
