# SPDX-License-Identifier: GPL-2.0-or-later
"""The result of a session: everything a view can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kleaktrace.core.events.coverage import Coverage, StackCheck
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.known_leaks import KnownLeak
from kleaktrace.core.leaked_objects.anatomy import Anatomy
from kleaktrace.core.ledger.ledger import Totals
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.machine.unexplained_memory import Unexplained
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.errors import ExitCode


class Outcome(StrEnum):
    """The verdict on the whole session."""

    CLEAN = "clean"
    LEAKS = "leaks"
    INCOMPLETE = "incomplete"

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that says it."""
        return {
            Outcome.CLEAN: ExitCode.CLEAN,
            Outcome.LEAKS: ExitCode.LEAKS,
            Outcome.INCOMPLETE: ExitCode.INCOMPLETE,
        }[self]


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel that was traced, as uname has it; `host` is the machine's name, empty: not known."""

    release: str
    arch: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """When tracing began, and for how long it went on. `start_ns` is the same moment by CLOCK_MONOTONIC."""

    start: datetime
    start_ns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The command that `run` bracketed: the exit status of the first run that failed, 0 if none did.

    The signal that ended it is a negative number. `runs`: how often it was run, `failed_runs` of these not well.
    `timed_out`: it was ended because its time was up.
    """

    arguments: tuple[str, ...]
    status: int
    runs: int = 1
    failed_runs: int = 0
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What else was found out about a command.

    settled: how long was waited for frees that were on their way; None: nothing was waited for. missing: memory that is
    gone and that no event explains. anatomy: what the leaked objects are. alive: processes (tgid) of user space that
    live on.
    """

    settled: Settled | None = None
    missing: Sequence[Unexplained] = ()
    anatomy: Anatomy = field(default_factory=Anatomy)
    alive: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class KnownFindings:
    """What one line of a file of known leaks has taken out of a report; nothing: it may have been mended."""

    known: KnownLeak
    suspects: Sequence[JudgedSuspect] = ()
    growing: Sequence[GrowingStack] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One session. `outstanding` is largest first; `gaps` says, line by line, why the evidence is incomplete.

    `growing` is fastest first. It convicts nobody, as it may be a cache that nobody has bounded yet; but what nothing
    explains is not clean. What is kept on purpose grows, too: `growing_kept`.
    """

    kernel: Kernel
    window: Window
    coverage: Sequence[Coverage]
    loss: Loss
    totals: Totals
    suspects: Sequence[JudgedSuspect]
    outstanding: Sequence[AllocationGroup]
    outcome: Outcome
    gaps: Sequence[str] = ()
    context_source: str = ""
    command: CommandResult | None = None
    growing: Sequence[GrowingStack] = ()
    growing_kept: Sequence[GrowingStack] = ()
    stack_check: StackCheck = field(default_factory=StackCheck)
    findings: Findings = field(default_factory=Findings)
    implied_from: Sequence[tuple[str, int]] = ()
    """Which caches the implied frees were of, the most first."""
    source_lines: SourceLines = NO_SOURCE_LINES
    """Of the frames, as far as they were looked up."""
    build_ids: Mapping[str, str] = field(default_factory=dict)
    """As `KernelNames` has them."""
    known: Sequence[KnownFindings] = ()
    """What is in none of the fields above, nor counts for the outcome, by the lines of the file that name it."""
    known_file: str = ""

    @property
    def now_ns(self) -> int:
        """When the window ended (CLOCK_MONOTONIC)."""
        return self.window.start_ns + int(self.window.seconds * 1e9)

    def told_frames(self, outstanding: int = 0) -> set[str]:
        """The frames of suspects and of what grows, and of so many of the groups that are outstanding."""
        growing = (frame for one in self.growing for frame in one.lines())
        frames = {frame for group in self.outstanding[:outstanding] for frame in group.stack.frames}
        return {frame for suspect in self.suspects for frame in suspect.stack}.union(growing, map(str, frames))

    def all_frames(self) -> set[str]:
        """The frames of everything that the report tells of."""
        growing = [*self.growing_kept, *(each for one in self.known for each in one.growing)]
        kept = (frame for one in growing for frame in one.lines())
        known = (frame for one in self.known for suspect in one.suspects for frame in suspect.stack)
        return self.told_frames(len(self.outstanding)).union(kept, known)


def outcome(suspects: Sequence[JudgedSuspect], gaps: Sequence[str], growing: Sequence[GrowingStack] = ()) -> Outcome:
    """Leaks if one is confirmed; clean only if nothing is missing from the evidence, and nothing left unexplained."""
    if any(suspect.verdict is Verdict.CONFIRMED for suspect in suspects):
        return Outcome.LEAKS
    if gaps or growing:
        return Outcome.INCOMPLETE
    if any(suspect.verdict is Verdict.UNDECIDED and suspect.counts_against_clean for suspect in suspects):
        return Outcome.INCOMPLETE
    return Outcome.CLEAN
