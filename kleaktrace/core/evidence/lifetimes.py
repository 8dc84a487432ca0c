# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the siblings of an allocation lived that were freed, and whether it may be just another one, still young."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from kleaktrace.core.ledger.stack_counters import StackStatistics, bin_range

ENOUGH = 5
"""So many freed siblings say something about how long such objects normally live."""

_OLDEST_NS = 1 << 62

_CHANCE = 0.05
"""An allocation is older than its siblings became if one of them would be so old less often."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Of freed siblings: how many, how long together and at most (ns), and how many in each bin (`bin_range`)."""

    freed: int = 0
    together_ns: float = 0.0
    longest_ns: int = 0
    bins: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, statistics: Iterable[StackStatistics]) -> Lifetimes:
        """Those of several stacks together."""
        several = list(statistics)
        bins: dict[int, int] = {}
        for each in several:
            for number, count in each.lifetimes:
                bins[number] = bins.get(number, 0) + count
        return cls(
            sum(each.frees for each in several),
            sum(each.lifetime_sum_ns for each in several),
            max((each.lifetime_max_ns for each in several), default=0),
            tuple(sorted(bins.items())),
        )

    def older_than(self, age_ns: int) -> int:
        """How many became older than this, or may have: a bin counts as a whole."""
        if self.longest_ns <= age_ns:
            return 0
        return sum(count for number, count in self.bins if bin_range(number)[1] > age_ns)

    def chance(self, age_ns: int) -> float:
        """The probability that one more of them would be freed only after this age.

        If some were, it is their share, with the one in question counted in (it might be the next: Wilks, Ann. Math.
        Stat. 12, 1941, needs no distribution). If none was, that bound is one in n + 1; a sharper one supposes
        that lifetimes are exponential: (S / (S + age))^n, where S is how long they lived together (Hahn & Nelson,
        J. Qual. Technol. 5, 1973, on prediction intervals).
        """
        older = self.older_than(age_ns)
        share = (older + 1) / (self.freed + 1)
        if older or not self.freed:
            return share
        alike: float = (self.together_ns / (self.together_ns + max(age_ns, 1))) ** self.freed
        return min(share, alike)

    def may_yet_end(self, age_ns: int) -> bool:
        """Whether an allocation of this age may be just another one that is still to be freed.

        Of fewer than `ENOUGH` only one that became older says so.
        """
        if self.freed < ENOUGH:
            return self.older_than(age_ns) > 0
        return self.chance(age_ns) > _CHANCE

    def old_enough_ns(self) -> int:
        """The least age that `may_yet_end` is false for: the older, the less likely it is."""
        return bisect_left(range(_OLDEST_NS), True, key=lambda age_ns: not self.may_yet_end(age_ns))
