# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds: the same done again and again, in one window.

Rounds come from `run --repeat`, from marks that the command sets (`kleaktrace mark NAME`), and from modules that are
loaded and unloaded again and again. An object belongs to the round in which it was allocated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class RoundSource(StrEnum):
    """What tells one round from the next."""

    REPEAT = "run"
    MARK = "mark"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class RoundSeries:
    """Rounds of the same kind, one after the other. Times are ns, CLOCK_MONOTONIC.

    edges: ascending, one more than there are rounds: round i is [edges[i], edges[i + 1]). name: of the mark or module;
    marks that all have names of their own go by none.
    """

    source: RoundSource
    edges: tuple[int, ...]
    name: str = ""

    @property
    def count(self) -> int:
        """How many rounds there are."""
        return max(len(self.edges) - 1, 0)

    def __str__(self) -> str:
        """One of them in words."""
        match self.source:
            case RoundSource.LOAD:
                return f"load of {self.name}"
            case RoundSource.MARK:
                return f"round of {self.name}" if self.name else "round"
        return "run"


def repeated(starts: Sequence[int], end_ns: int) -> RoundSeries:
    """The runs of a command that began at `starts`; the last was over at `end_ns`."""
    return RoundSeries(RoundSource.REPEAT, (*starts, end_ns) if starts else ())


def marked(marks: Iterable[tuple[int, str]], end_ns: int) -> list[RoundSeries]:
    """The series that marks (time, name) make: those of each name that comes again, or all if none does.

    A round of one name lasts until the mark of that name comes next.
    """
    in_order = sorted(mark for mark in marks if mark[0] < end_ns)
    again = [name for name, times in Counter(name for _, name in in_order).items() if times > 1]
    if not again:
        return [RoundSeries(RoundSource.MARK, (*(at for at, _ in in_order), end_ns))] if in_order else []
    return [
        RoundSeries(RoundSource.MARK, (*(at for at, mark in in_order if mark == name), end_ns), name)
        for name in sorted(again)
    ]


def load_cycles(name: str, loads: Sequence[int], unloads: Sequence[int], end_ns: int) -> RoundSeries:
    """The series of a module that was loaded again and again. A round lasts from one load to the next.

    What has not been unloaded in the end is no round.
    """
    whole = loads and unloads and unloads[-1] >= loads[-1]
    return RoundSeries(RoundSource.LOAD, (*loads, max(end_ns, loads[-1] + 1)) if whole else tuple(loads), name)
