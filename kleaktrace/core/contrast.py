"""What the leaked allocations of a call stack have in common that its freed ones have not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from kleaktrace.core.events import Context
from kleaktrace.core.sibling_samples import Traits

_LEAST_LEAKED, _LEAST_FREED = 3, 5
_COMMON = 0.9
"""So much of the leaked must share a value before it is worth a word."""
_CHANCE = 0.005
"""How likely a difference this large may be by chance (Fisher's exact test, one-sided); five traits are looked at."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """`leaked` of `leaked_of` never freed have `trait` = `value`, and only `freed` of `freed_of` freed siblings."""

    trait: str
    value: str
    leaked: int
    leaked_of: int
    freed: int
    freed_of: int

    def __str__(self) -> str:
        share = f"all {self.leaked}" if self.leaked == self.leaked_of else f"{self.leaked} of {self.leaked_of}"
        freed = f"{self.freed} of" if self.freed else "none of"
        return f"{share} never freed have {self.trait} {self.value}; {freed} {self.freed_of} freed siblings looked at"


_TRAITS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("comm", "comm", lambda value: bytes(value).decode(errors="backslashreplace")),
    ("bytes_req", "size", str),
    ("gfp_flags", "gfp flags", lambda value: f"{int(value):#x}"),
    ("cpu", "CPU", str),
    ("context", "context", lambda value: Context(int(value)).name.lower()),
)


def contrasts(leaked: Any, freed: Traits) -> Sequence[Contrast]:
    """Compare allocations never freed (rows with the fields of TRAITS) with samples of freed ones of the same stack.

    Fisher's exact test (R. A. Fisher, 1922) on the two-by-two table of each trait's most common value.
    """
    if leaked.size < _LEAST_LEAKED or freed.size < _LEAST_FREED:
        return []
    found = []
    for field, trait, shown in _TRAITS:
        values, counts = np.unique(leaked[field], return_counts=True)
        most = int(counts.argmax())
        have, others = int(counts[most]), int(np.count_nonzero(freed[field] == values[most]))
        if have < _COMMON * leaked.size or _by_chance(have, leaked.size, others, freed.size) > _CHANCE:
            continue
        found.append(Contrast(trait, shown(values[most]), have, int(leaked.size), others, int(freed.size)))
    return found


def _by_chance(leaked: int, leaked_of: int, freed: int, freed_of: int) -> float:
    """How likely so many, or more, of the leaked have the value if it has nothing to do with leaking."""
    total, having = leaked_of + freed_of, leaked + freed
    ways = comb(total, having)
    return sum(
        comb(leaked_of, k) * comb(freed_of, having - k) / ways
        for k in range(leaked, min(leaked_of, having) + 1)
        if having - k <= freed_of
    )
