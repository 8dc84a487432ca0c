# SPDX-License-Identifier: GPL-2.0-or-later
"""What every part gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench_lib.loads import Loads

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of `tools/bench`. `say` shows what is being done; `short`: to see that it works, not for figures."""

    loads: Loads
    directory: Path
    rounds: int
    short: bool
    say: Callable[[str], None]

    def seconds(self, full: float, short: float) -> float:
        """How long to do something."""
        return short if self.short else full

    def alternate(self, what: str, among: Sequence[_T]) -> Iterator[_T]:
        """Each in turn, as many times as there are rounds: A B C A B C …, so that a drift of the machine hits all."""
        for number in range(self.rounds):
            for one in among:
                self.say(f"{what}: round {number + 1} of {self.rounds}, {getattr(one, 'name', one)}")
                yield one
