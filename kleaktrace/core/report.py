"""The result of a session: everything a view can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kleaktrace.core.coverage import Coverage, Loss, StackCheck
from kleaktrace.core.growing_stacks import GrowingStack
from kleaktrace.core.ledger import Totals
from kleaktrace.core.outstanding import Group
from kleaktrace.core.verdicts import JudgedSuspect, Verdict
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
    """The kernel that was traced, as uname has it."""

    release: str
    arch: str


@dataclass(frozen=True, slots=True)
class Window:
    """When tracing began, and for how long it went on. `start_ns` is the same moment by CLOCK_MONOTONIC."""

    start: datetime
    start_ns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The command that `run` bracketed: its exit status, or the signal that ended it as a negative number."""

    arguments: tuple[str, ...]
    status: int


@dataclass(frozen=True, slots=True)
class Report:
    """One session. `outstanding` is largest first; `gaps` says, line by line, why the evidence is incomplete.

    `growing` is fastest first. It has no say in the outcome: it may be a cache that nobody has bounded yet.
    """

    kernel: Kernel
    window: Window
    coverage: Sequence[Coverage]
    loss: Loss
    totals: Totals
    suspects: Sequence[JudgedSuspect]
    outstanding: Sequence[Group]
    outcome: Outcome
    gaps: Sequence[str] = ()
    context_source: str = ""
    command: CommandResult | None = None
    growing: Sequence[GrowingStack] = ()
    stack_check: StackCheck = field(default_factory=StackCheck)

    @property
    def now_ns(self) -> int:
        """When the window ended (CLOCK_MONOTONIC)."""
        return self.window.start_ns + int(self.window.seconds * 1e9)


def outcome(suspects: Sequence[JudgedSuspect], gaps: Sequence[str]) -> Outcome:
    """Leaks if one is confirmed; clean only if nothing is missing from the evidence."""
    if any(suspect.verdict is Verdict.CONFIRMED for suspect in suspects):
        return Outcome.LEAKS
    if gaps or any(suspect.verdict is Verdict.UNDECIDED and suspect.weakens for suspect in suspects):
        return Outcome.INCOMPLETE
    return Outcome.CLEAN
