# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes allocations fail, whatever means it uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kleaktrace.core.evidence.injected_runs import FailedAllocation
from kleaktrace.core.injection.aim import Aim
from kleaktrace.core.symbols.symbol_table import Frame, FunctionPlace

Namer = Callable[[Sequence[tuple[int, Sequence[int]]]], list[list[Frame]]]
"""Names the return addresses of call stacks, each as of a time (ns, CLOCK_MONOTONIC)."""


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to tell of a run.

    failed: what failed in it. could_fail: if nothing was to fail, what could have, each call stack once, in the order
    in which it was asked for, as far as the injector sees stacks. pid: of the run's process; 0: not known.
    """

    failed: FailedAllocation | None
    could_fail: Sequence[FailedAllocation] = ()
    pid: int = 0


class Injector(Protocol):
    """Makes one allocation fail in each run, of the process that the run starts and of what that starts."""

    @property
    def means(self) -> str:
        """By what, in words."""

    @property
    def sees_stacks(self) -> bool:
        """Whether it goes by call stacks: only what passes the filter fails, and each stack once."""

    def begin(self, run: int, aim: Aim, wanted: int = 0) -> None:
        """Have it happen from now on. wanted: the call stack's key, or the number (from 1), if the aim has one."""

    def only_through(self, places: Sequence[FunctionPlace]) -> None:
        """Let only fail what goes through a function, which is at these places. Not if it does not see stacks."""

    def has_failed(self, keys: Sequence[int]) -> None:
        """Have these call stacks count as failed already. Not if it does not see stacks."""

    def command(self, command: Sequence[str]) -> Sequence[str]:
        """What to run in place of a command, after `begin`."""

    def exited(self, pid: int) -> None:
        """The process of the run has ended, and nobody has waited for it yet."""

    def end(self, name: Namer) -> Told:
        """Have nothing fail any more, and tell."""

    def close(self) -> None:
        """Let go of everything. May be called twice."""
