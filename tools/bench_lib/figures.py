# SPDX-License-Identifier: GPL-2.0-or-later
"""What a measurement gives: a figure with its rounds, and the value it should reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """The value to reach: at most it, or at least."""

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value reaches it."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity: a value for each round, in `unit`. No rounds: it could not be measured, and `note` says why."""

    what: str
    unit: str
    rounds: Sequence[float]
    target: Target | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """The figure."""
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def deviation(self) -> float | None:
        """Its noise: the median absolute deviation of the rounds from their median."""
        if not self.rounds:
            return None
        middle = statistics.median(self.rounds)
        return statistics.median(abs(value - middle) for value in self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None: there is none, or no figure, or the noise hides it."""
        if self.target is None or self.median is None or self.deviation is None:
            return None
        if self.unit == "×" and min(self.rounds) < 0:
            return None  # a cost below nothing is noise
        answers = {self.target.met(self.median + sign * self.deviation) for sign in (-1, 1)}
        return answers.pop() if len(answers) == 1 else None

    def document(self) -> dict[str, Any]:
        """The figure as plain values."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "deviation": self.deviation,
            "rounds": list(self.rounds),
            "target": None if self.target is None else str(self.target),
            "met": self.met,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Part:
    """The figures of one part, and in a sentence or two how they were measured. `raw` goes to the JSON only.

    `others` are tracing programs that did not belong to it: with any, nothing is said about targets.
    """

    name: str
    how: str
    figures: Sequence[Figure]
    raw: Any = field(default=None, repr=False)
    others: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """The part as plain values."""
        return {
            "name": self.name,
            "how": self.how,
            "others": list(self.others),
            "figures": [figure.document() | ({"met": None} if self.others else {}) for figure in self.figures],
            "raw": self.raw,
        }


def quotients(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Round by round; rounds in which the divisor is not positive say nothing and are left out."""
    return [a / b for a, b in zip(over, under, strict=True) if b > 0]


def differences(of: Sequence[float], less: Sequence[float], divisor: float = 1.0) -> list[float]:
    """Round by round `of - less`, divided by `divisor`."""
    return [(a - b) / divisor for a, b in zip(of, less, strict=True)]
