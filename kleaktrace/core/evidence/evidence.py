# SPDX-License-Identifier: GPL-2.0-or-later
"""What is judged, by what evidence, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.clock import JiffiesClock
from kleaktrace.core.events.coverage import Coverage, CoverageKind, kinds_missed, kinds_seen
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Context, hide
from kleaktrace.core.evidence.contrasts import Contrast
from kleaktrace.core.evidence.rounds import RoundSeries
from kleaktrace.core.evidence.stack_evidence import Siblings
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.outstanding_table import object_keys
from kleaktrace.core.symbols.kernel_names import KernelNames

if TYPE_CHECKING:
    from kleaktrace.core.kmemleak.report_parser import Suspect

ALONE = Siblings(0, 0, 0)
"""Of what has no call stack."""


class SuspectSource(StrEnum):
    """What makes an allocation a suspect."""

    KMEMLEAK = "kmemleak"
    UNLOAD = "unload"
    REPETITION = "repetition"


class Verdict(StrEnum):
    """What a suspect turned out to be."""

    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Freed:
    """When (seconds after its allocation; None: the allocation was not seen) and where a suspect was freed."""

    after_s: float | None
    site: str


@dataclass(frozen=True, slots=True)
class Rounds:
    """A call stack, round by round: `grew_in` of `total` rounds after a warm-up left `per_round` objects behind."""

    total: int
    grew_in: int
    per_round: float


class JudgedSuspect(NamedTuple):
    """A suspect with its verdict and the evidence.

    `percpu`: the address is a per-CPU offset. `size` is what kmemleak says (of an unload suspect, what the allocator
    gave), `bytes_req` what was asked for.
    `in_window` is False for what was allocated before tracing began. `counts_against_clean`: whether, if it is not
    dismissed, the run can't be called clean; `rule` names the rule that says why or why not. `rounds` is what the
    rounds of a repeated command say of its call stack; None: nothing. `arguments` are those of the program that
    allocated it, its name first; none: not known.
    """

    source: SuspectSource
    address: int
    size: int
    verdict: Verdict
    reason: str
    age_s: float
    comm: str
    pid: int
    context: Context
    cache: str
    stack: tuple[str, ...]
    bytes_req: int | None = None
    bytes_alloc: int | None = None
    siblings: Siblings = ALONE
    freed: Freed | None = None
    in_window: bool = True
    counts_against_clean: bool = True
    rule: str = ""
    rounds: Rounds | None = None
    arguments: tuple[str, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    percpu: bool = False


def keys_of_judged(suspects: Sequence[JudgedSuspect]) -> U64:
    """Their object keys, as of rows (`outstanding_table.keys_of`)."""
    names = np.array([hide(suspect.address) for suspect in suspects], np.uint64)
    return object_keys(names, np.array([suspect.percpu for suspect in suspects], np.bool_))


@dataclass(frozen=True, slots=True)
class Question:
    """Whether kmemleak still has the object that this `Kind` of allocator gave out at an address, at this time.

    Another may have come to lie there since, of which we know nothing: our own process is not traced.
    """

    address: int
    kind: int
    jiffies: int = field(default=0, compare=False)
    """As kmemleak would have stamped it, or the low 32 bits of that."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict may use.

    readings: what kmemleak listed after each scan, oldest first. answers: what it said when it was asked whether it
    has an object somewhere; what is missing is not known. watched_s: for how long frees were watched after the first
    reading. series: the rounds there were. alive: processes (tgid) of user space that live on. processors: so many
    there may be; 0: not known.
    """

    ledger: Ledger
    names: KernelNames
    clock: JiffiesClock
    loss: Loss
    coverage: Sequence[Coverage]
    readings: Sequence[Sequence[Suspect]] = ()
    answers: Mapping[Question, bool] = field(default_factory=dict)
    watched_s: float = 0.0
    series: Sequence[RoundSeries] = ()
    alive: frozenset[int] = frozenset()
    processors: int = 0

    def covers(self, kind: CoverageKind) -> bool:
        """Whether events of this kind were seen."""
        return kind in kinds_seen(self.coverage)

    def misses(self, kind: CoverageKind) -> bool:
        """Whether this kernel has such events, and none of them were seen."""
        return kind in kinds_missed(self.coverage)
