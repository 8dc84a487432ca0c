# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts of a scan, by the call stacks of the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.live_table.live_table import TableLook
from kleaktrace.core.symbols.kernel_names import KernelNames

_RANKS = {Verdict.DISMISSED: 1, Verdict.UNDECIDED: 2, Verdict.CONFIRMED: 3}
_BY_RANK = {rank: verdict for verdict, rank in _RANKS.items()}


@dataclass(frozen=True)
class StackVerdicts:
    """Suspects by the key of their call stack; `keys` are those that have any, ascending. scanned: whether any scan
    was made: what it did not list has no suspects either."""

    scanned: bool = False
    suspects: Mapping[int, Sequence[JudgedSuspect]] = field(default_factory=dict)

    @classmethod
    def of(cls, suspects: Iterable[JudgedSuspect], names: KernelNames, keys: Iterable[int]) -> StackVerdicts:
        """What was judged, for the stacks with these keys: several keys may stand for one stack."""
        by_text: dict[str, list[JudgedSuspect]] = {}
        for suspect in suspects:
            by_text.setdefault("\n".join(suspect.stack), []).append(suspect)
        texts = {key: names.stacks.text(key) for key in set(keys)} if by_text else {}
        found = {key: by_text.get(text, ()) for key, text in texts.items()}
        return cls(True, {key: some for key, some in found.items() if some})

    def ranks(self, look: TableLook) -> Index:
        """The verdict of each group, as `verdict` takes it: the worst there is."""
        ranks = np.zeros(look.counts.size, np.intp)
        keys = np.array(sorted(self.suspects), np.uint64)
        if not keys.size:
            return ranks
        worst = np.array([max(_RANKS[s.verdict] for s in self.suspects[key]) for key in keys.tolist()], np.intp)
        groups, stacks = look.groups.stacks
        places = np.minimum(np.searchsorted(keys, stacks), keys.size - 1)
        there = (keys[places] == stacks) & (groups < ranks.size)
        np.maximum.at(ranks, groups[there], worst[places[there]])
        return ranks

    def of_stacks(self, keys: U64) -> list[JudgedSuspect]:
        """The suspects of some stacks: confirmed ones first."""
        found = {id(one): one for key in set(keys.tolist()) for one in self.suspects.get(key, ())}
        return sorted(found.values(), key=lambda one: -_RANKS[one.verdict])


def verdict(rank: int) -> Verdict | None:
    """What a rank stands for; None: no suspects."""
    return _BY_RANK.get(rank)


NO_VERDICTS = StackVerdicts()
"""Nobody has scanned."""
