# SPDX-License-Identifier: GPL-2.0-or-later
"""What the leaked allocations of a call stack have in common that its freed ones have not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kleaktrace.core.events.records import Context, comm_text, may_be_task
from kleaktrace.core.ledger.free_samples import Traits

_LEAST_LEAKED, _LEAST_FREED = 3, 5
_COMMON = 0.9
"""So much of the leaked must share a value before it is worth a word."""
_CHANCE = 0.01
"""How likely it may be that chance alone makes any difference as large, in whatever trait, of this stack."""
_SAME_ROWS = 0.9
"""Traits that agree on so many of the allocations are one: of a loop, CPU and comm."""

# Of the kernel's own threads, most are one for each CPU, and kworkers are whoever was idle: only the work tells.
_KERNEL_THREAD = re.compile(
    r"^(kworker/|ksoftirqd/|migration/|swapper/|cpuhp/|rcu|irq_work/|idle_inject/|watchdog/|ktimers/)"
)


@dataclass(frozen=True, slots=True)
class Contrast:
    """`leaked` of `leaked_of` never freed have `trait` = `value`, and only `freed` of `freed_of` freed siblings.

    by_chance: how likely so large a difference is, in any of the traits looked at, if none has to do with leaking.
    also: other traits, and their values, that the same allocations have.
    """

    trait: str
    value: str
    leaked: int
    leaked_of: int
    freed: int
    freed_of: int
    by_chance: float
    also: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        share = f"all {self.leaked}" if self.leaked == self.leaked_of else f"{self.leaked} of {self.leaked_of}"
        freed = f"{self.freed} of" if self.freed else "none of"
        traits = " and ".join(f"{trait} {value}" for trait, value in ((self.trait, self.value), *self.also))
        return (
            f"{share} never freed have {traits}; {freed} {self.freed_of} freed siblings of the same time; "
            f"by chance {_odds(self.by_chance)}"
        )


def _odds(chance: float) -> str:
    """1 in 4,000: two digits, since it is an estimate."""
    if chance <= 1e-9:
        return "less than 1 in a billion"
    odds = 1 / chance
    step = 10 ** max(len(str(int(odds))) - 2, 0)
    return f"1 in {round(odds / step) * step:,}"


# The most telling first.
_TRAITS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("bytes_req", "size", str),
    ("context", "context", lambda value: Context(int(value)).name.lower()),
    ("gfp_flags", "gfp flags", lambda value: f"{int(value):#x}"),
    ("comm", "comm", lambda value: comm_text(bytes(value))),
    ("cpu", "CPU", str),
)


class _Shared(NamedTuple):
    """A value that most of the leaked share: who has it, and how likely the difference is by chance."""

    trait: str
    value: str
    leaked: npt.NDArray[np.bool_]
    freed: npt.NDArray[np.bool_]
    by_chance: float


def contrasts(leaked: Any, freed: Traits) -> Sequence[Contrast]:
    """Compare allocations never freed (rows with the fields of TRAITS) with samples of freed ones of the same stack.

    Only with those allocated between the first and the last of them: what else changed meanwhile has nothing to do
    with it. Fisher's exact test (R. A. Fisher, 1922) on the two-by-two table of each trait's most common value, times
    the number of values that were common enough to be looked at (C. E. Bonferroni, 1936).
    """
    if leaked.size < _LEAST_LEAKED:
        return []
    times = freed["time_ns"]
    freed = freed[(times >= leaked["time_ns"].min()) & (times <= leaked["time_ns"].max())]
    if freed.size < _LEAST_FREED:
        return []
    looked_at = sum(_common_values(leaked, freed, field) for field, _, _ in _TRAITS)
    shared = [each for each in _shared(leaked, freed, looked_at) if each.by_chance <= _CHANCE]
    return [_contrast(group) for group in _told_apart(shared)]


def _common_values(leaked: Any, freed: Traits, field: str) -> int:
    """How many values of a trait could have been shared by enough of the leaked: all that so many allocations have."""
    values = np.concatenate([leaked[field], freed[field]])
    return int(np.count_nonzero(np.unique(values, return_counts=True)[1] >= _COMMON * leaked.size))


def _shared(leaked: Any, freed: Traits, looked_at: int) -> Iterator[_Shared]:
    for field, trait, shown in _TRAITS:
        values, counts = np.unique(leaked[field], return_counts=True)
        value = values[counts.argmax()]
        if counts.max() < _COMMON * leaked.size or (field == "comm" and _comm_says_nothing(leaked, value)):
            continue
        of_leaked, of_freed = leaked[field] == value, freed[field] == value
        chance = _by_chance(int(of_leaked.sum()), leaked.size, int(of_freed.sum()), freed.size)
        yield _Shared(trait, shown(value), of_leaked, of_freed, min(chance * looked_at, 1.0))


def _comm_says_nothing(leaked: Any, comm: bytes) -> bool:
    """Whether it is a thread of the kernel's, or what an interrupt came upon."""
    in_tasks = may_be_task(leaked).all()
    return not in_tasks or _KERNEL_THREAD.match(comm_text(bytes(comm))) is not None


def _told_apart(shared: Sequence[_Shared]) -> list[list[_Shared]]:
    """Together what picks out the same allocations, or nearly."""
    groups: list[list[_Shared]] = []
    for each in shared:
        rows = np.concatenate([each.leaked, each.freed])
        for group in groups:
            if np.mean(rows == np.concatenate([group[0].leaked, group[0].freed])) >= _SAME_ROWS:
                group.append(each)
                break
        else:
            groups.append([each])
    return groups


def _contrast(group: Sequence[_Shared]) -> Contrast:
    first, *others = group
    return Contrast(
        first.trait,
        first.value,
        int(first.leaked.sum()),
        first.leaked.size,
        int(first.freed.sum()),
        first.freed.size,
        first.by_chance,
        tuple((other.trait, other.value) for other in others),
    )


def _by_chance(leaked: int, leaked_of: int, freed: int, freed_of: int) -> float:
    """How likely so many, or more, of the leaked have the value if it has nothing to do with leaking."""
    total, having = leaked_of + freed_of, leaked + freed
    ways = comb(total, having)
    return sum(
        comb(leaked_of, k) * comb(freed_of, having - k) / ways
        for k in range(leaked, min(leaked_of, having) + 1)
        if having - k <= freed_of
    )
