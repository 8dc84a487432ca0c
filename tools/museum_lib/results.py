# SPDX-License-Identifier: GPL-2.0-or-later
"""What each tool said about a piece, compared with the truth. Pure: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kleaktrace.core.kmemleak.report_parser import Suspect
from museum_lib.piece import Piece, Truth

ROUNDS = 10
"""How often a trigger is run under kleaktrace: what still is pointed to shows by repetition alone, and fewer than
eight rounds don't tell where no module goes away in between (kleaktrace/core/repetition/sign_test.py)."""

_SUFFIXES = r"(?:\.(?:isra|constprop|part|cold)(?:\.\d+)?)*"


@dataclass(frozen=True, slots=True)
class Kmemleak:
    """What kmemleak lists after two scans of what a piece's one round allocated; `named` have the truth's function in
    the stack."""

    listed: int
    named: int


@dataclass(frozen=True, slots=True)
class Memleak:
    """How many stacks memleak lists after some rounds of a group of pieces, and how many of them have the truth's
    function."""

    listed: int
    named: int


@dataclass(frozen=True, slots=True)
class Kleaktrace:
    """kleaktrace's verdict on the rounds of all pieces of a trace; of the objects it confirms, `named` have the
    truth's function in the stack, and `sources` are how it knows of those."""

    verdict: str
    confirmed: int
    named: int
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A piece, and what was seen of it; None where a tool was not run, `failure` where something went wrong.

    rounds: how many there were under kleaktrace.
    """

    piece: Piece
    repaired: bool
    rounds: int = ROUNDS
    kmemleak: Kmemleak | None = None
    memleak: Memleak | None = None
    kleaktrace: Kleaktrace | None = None
    failure: str = ""

    @property
    def expected(self) -> int:
        """How many objects leak in all rounds."""
        return 0 if self.repaired else self.piece.truth.objects * self.rounds

    @property
    def is_right(self) -> bool:
        """Whether kleaktrace said what is true: the leak confirmed, named and counted; nothing where it is repaired."""
        found = self.kleaktrace
        if found is None or self.failure:
            return False
        if self.repaired:
            return found.verdict == "clean" and not found.confirmed
        return found.verdict == "leaks" and found.named == self.expected


def is_of(function: str, frame: str) -> bool:
    """Whether a frame (`name+0x1/0x2 [module]`) is of a function, whatever parts the compiler made of it."""
    return re.match(rf"{re.escape(function)}{_SUFFIXES}(?:\+|\s|$)", frame.strip()) is not None


def of_kmemleak(suspects: Iterable[Suspect], truth: Truth) -> Kmemleak:
    """Count what kmemleak lists of a piece's round: no names, or another module's, where its module has gone since."""
    stacks = [[frame.symbol or "" for frame in suspect.frames] for suspect in suspects]
    return Kmemleak(len(stacks), sum(any(is_of(truth.function, name) for name in stack) for stack in stacks))


def of_kleaktrace(document: dict[str, Any], truth: Truth) -> Kleaktrace:
    """Count what kleaktrace confirmed (docs of the JSON document: kleaktrace/views/documents/report.py)."""
    confirmed = [each for each in document["suspects"] if each["verdict"] == "confirmed"]
    named = [each for each in confirmed if any(is_of(truth.function, frame) for frame in each["stack"])]
    sources = sorted({each.get("source", "kmemleak") for each in named})
    return Kleaktrace(document["verdict"], len(confirmed), len(named), tuple(sources))


def of_memleak(report: str, truth: Truth) -> Memleak:
    """Count the stacks of a report: `8 bytes in 1 allocations from stack`, then `0xADDRESS  name+0x1 [module]`…"""
    stacks: list[list[str]] = []
    for line in map(str.strip, report.splitlines()):
        if line.endswith("from stack"):
            stacks.append([])
        elif stacks and line.startswith("0x") and " " in line.expandtabs():
            stacks[-1].append(line.split(maxsplit=1)[1])
    return Memleak(len(stacks), sum(any(is_of(truth.function, frame) for frame in stack) for stack in stacks))


def document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON has them."""
    return [
        {
            "piece": row.piece.name,
            "subsystem": row.piece.subsystem,
            "kind": row.piece.kind,
            "repaired": row.repaired,
            "fix": {"subject": row.piece.fix.subject, "commit": row.piece.fix.commit},
            "truth": {"function": row.piece.truth.function, "objects": row.expected},
            "kmemleak": row.kmemleak and {"listed": row.kmemleak.listed, "named": row.kmemleak.named},
            "memleak": row.memleak and {"listed": row.memleak.listed, "named": row.memleak.named},
            "kleaktrace": row.kleaktrace
            and {
                "verdict": row.kleaktrace.verdict,
                "confirmed": row.kleaktrace.confirmed,
                "named": row.kleaktrace.named,
                "sources": list(row.kleaktrace.sources),
            },
            "failure": row.failure,
            "right": row.is_right,
        }
        for row in rows
    ]
