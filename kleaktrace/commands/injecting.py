# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command again and again, and has one allocation fail in each run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import IO

from kleaktrace.commands.injected_run import run_once
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.core.evidence.injected_runs import FailedAllocation, InjectedRun, RunEnd, Walk
from kleaktrace.core.injection.aim import Aim
from kleaktrace.core.injection.asked_stacks import (
    each_path_once,
    numbers_near,
    passed_over,
    paths_through_modules,
)
from kleaktrace.core.injection.unexplained import ROUNDS
from kleaktrace.core.symbols.call_stacks import function_of
from kleaktrace.core.symbols.symbol_table import FunctionPlace
from kleaktrace.edge.injection.injector import Injector, Namer, Told
from kleaktrace.edge.injection.walk_file import WalkFile
from kleaktrace.edge.machine.kernel_bugs import KernelBugs
from kleaktrace.errors import UsageError

_LEAST_TIMEOUT_S = 30.0
_TIMES_PLAIN = 10
"""A run that takes so many times as long as one in which nothing fails hangs."""
_MOST_ROUNDS, _QUIET_ROUNDS = 8, 2
_AROUND = 3
"""Numbers on each side: at which one an allocation comes is another by some in each run."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop: after so many failures, and how long a run may take (None: by the plain run)."""

    most: int | None = None
    timeout_s: float | None = None
    again: bool = False
    """Fail by number, call stacks that have failed already, too."""


@dataclass
class Progress:
    """What is told while it goes on."""

    tell: Callable[[str], None] = lambda text: None
    started: float = field(default_factory=time.monotonic)

    def failing(self, done: int, planned: int, spent_s: float) -> None:
        """So many have failed, of about so many."""
        left = max(planned - done, 0)
        about = f", about {left * spent_s / done:.0f} s left" if done and left else ""
        self.tell(f"failure {done + 1} of about {max(planned, done + 1)}{about}")


class Walker:
    """Does the runs. `walk` is what there is of them, whenever it is asked."""

    def __init__(
        self,
        command: Sequence[str],
        injector: Injector,
        name: Namer,
        ending: DeferredInterrupt,
        limits: Limits,
        progress: Progress,
        file: WalkFile | None = None,
        asked_by: Callable[[int], Sequence[FailedAllocation]] = lambda pid: (),
        log: IO[bytes] | None = None,
    ) -> None:
        """asked_by: what a process has asked for that could fail, where the injector does not see that.

        log: where what the command prints goes; None: where ours does.
        """
        self._command = tuple(command)
        self._injector = injector
        self._name = name
        self._ending = ending
        self._limits = limits
        self._progress = progress
        self._file = file
        self._asked_by = asked_by
        self._log = log
        self._runs: list[InjectedRun] = []
        self._stopped = ""
        self._done = 0
        """Runs in which something failed."""
        self.could_fail: Sequence[FailedAllocation] = ()
        """Of the plain run."""
        self.planned = 0

    @property
    def walk(self) -> Walk:
        """The runs so far."""
        end_ns = time.monotonic_ns()
        return Walk(self._injector.means, tuple(self._runs), self.planned, end_ns, self._stopped)

    def plain(self) -> InjectedRun:
        """Run the command without any failure, and see what could fail. Raises `UsageError` if it does not end well."""
        self._progress.tell("the plain run")
        run, told = self._plain()
        self.could_fail = told.could_fail
        if not self._injector.sees_stacks:
            # What only the first run asks for, as it is the first, would not fail any more.
            later = [one for _ in range(2) for one in self._asked_by(self._plain()[1].pid)]
            self.could_fail = each_path_once(later)
        self.planned = len(self.could_fail)
        if self._file is not None:
            self._go_on(self._file)
        return run

    def _plain(self) -> tuple[InjectedRun, Told]:
        run, told = self._run(Aim.NOTHING, 0, self._limits.timeout_s)
        if run.ended is RunEnd.EXITED and run.status:
            raise UsageError(
                f"the command fails by itself ({_ending(run.status)}): nobody could tell what a failing allocation "
                "adds to that",
                "give a command that ends with status 0 when nothing fails",
            )
        if run.ended is not RunEnd.EXITED:
            what = {RunEnd.CRASHED: "brings the kernel down", RunEnd.INTERRUPTED: "was interrupted"}
            raise UsageError(
                f"the command {what.get(run.ended, 'does not end')} before anything fails",
                "give one that ends by itself, or more time (--timeout)",
            )
        self._runs.append(run)
        return run, told

    def only_through(self, function: str, places: Sequence[FunctionPlace]) -> None:
        """Let only fail what goes through a function, from now on."""
        self._injector.only_through(places)
        self.could_fail = [one for one in self.could_fail if function in map(function_of, one.stack)]
        self.planned = len(self.could_fail)

    def _go_on(self, file: WalkFile) -> None:
        """Have what is known from before the machine was restarted count, and what it died of."""
        deadly = file.died() if file.running else None
        if deadly is not None:
            now_ns = time.monotonic_ns()
            said = ("the machine did not live to tell",)
            self._runs.append(InjectedRun(len(self._runs), now_ns, now_ns, deadly, 0, RunEnd.CRASHED, said))
        known = {one.key for one in file.known}
        self._injector.has_failed(sorted(known))
        self.planned -= sum(one.key in known for one in self.could_fail)

    def fail_all(self) -> None:
        """Have one allocation after the other fail, until a run asks for none that has not."""
        began = time.monotonic()
        by_number = self._limits.again or not self._injector.sees_stacks
        failed_at: dict[int, FailedAllocation] = {}
        if self._file is not None:
            self._fail_each(self._file, began)
        while self._may_newcomers_fail and not self._is_enough():
            self._progress.failing(self._done, 0 if by_number else self.planned, time.monotonic() - began)
            with self._noted(None):
                run, _ = self._run(Aim.NUMBER if by_number else Aim.NEXT, self._done + 1, self._timeout_s)
            self._add(run)
            if run.failed is None:
                break
            self._done += 1
            if run.ended is RunEnd.EXITED:
                failed_at[self._done] = run.failed
        if not self._injector.sees_stacks:
            self._fail_what_was_passed_over(failed_at)

    def _fail_each(self, file: WalkFile, began: float) -> None:
        """Have one after the other fail of what the plain run asked for, and the file know each before it does."""
        known = {one.key for one in file.known}
        for one in self.could_fail:
            if self._is_enough():
                return
            if one.key in known:
                continue
            self._progress.failing(self._done, self.planned, time.monotonic() - began)
            with self._noted(one):
                run, _ = self._run(Aim.CHOSEN, one.key, self._timeout_s)
            self._add(run)
            self._done += run.failed is not None

    def _noted(self, trying: FailedAllocation | None) -> AbstractContextManager[None]:
        """The file knows what the machine dies of, if it dies meanwhile."""
        return nullcontext() if self._file is None else self._file.run(trying)

    @property
    def _may_newcomers_fail(self) -> bool:
        return self._file is None or self._file.newcomers

    @property
    def gaps(self) -> list[str]:
        """Why not all has failed that could, line by line."""
        if self._may_newcomers_fail:
            return []
        return [
            "what the plain run did not ask for has not failed: the machine died of such, and of which is not known"
        ]

    @property
    def passed_over(self) -> list[FailedAllocation]:
        """What should have failed, and was not seen to, where allocations fail by number."""
        return [] if self._injector.sees_stacks else passed_over(self.could_fail, self._failed)

    @property
    def _failed(self) -> list[FailedAllocation]:
        return [run.failed for run in self._runs if run.failed is not None]

    def _is_enough(self) -> bool:
        """Whether it is over, or so many have failed as were wanted."""
        if self._limits.most is not None and self._done >= self._limits.most and not self._stopped:
            self._stopped = f"after {self._done} failures (--max)"
        return bool(self._stopped)

    def _fail_what_was_passed_over(self, failed_at: Mapping[int, FailedAllocation]) -> None:
        """Have fail again what is near the calls of modules, until all have failed and some rounds bring nothing new.

        For our own table has not all: no pages. failed_at: by number, in runs that came to an end by themselves. It is
        over with a run that does not.
        """
        if not self.could_fail and not paths_through_modules(failed_at.values()):
            return
        near, quiet = numbers_near(failed_at, _AROUND), 0
        for round_number in range(1, _MOST_ROUNDS + 1):
            before = paths_through_modules(self._failed)
            for place, number in enumerate(near, start=1):
                if self._is_enough():
                    return
                self._progress.tell(f"what was passed over, round {round_number}: {place} of {len(near)}")
                run, _ = self._run(Aim.NUMBER, number, self._timeout_s)
                stacks = {one.stack for one in self._failed if one.stack}
                self._add(replace(run, again=run.failed is not None and run.failed.stack in stacks))
                self._done += run.failed is not None
                if run.ended is not RunEnd.EXITED:
                    return
            quiet = quiet + 1 if paths_through_modules(self._failed) == before else 0
            if not self.passed_over and quiet >= _QUIET_ROUNDS:
                return

    def repeat(self, runs: Sequence[InjectedRun]) -> None:
        """Do again what these runs did, each so often that what it leaves behind can be judged by repetition."""
        for place, run in enumerate(runs, start=1):
            for _ in range(ROUNDS):
                if self._stopped:
                    return
                self._progress.tell(f"repeating error path {place} of {len(runs)}, to see what grows")
                aim, key = (Aim.CHOSEN, run.failed.key) if run.failed else (Aim.NOTHING, 0)
                with self._noted(run.failed) if run.failed else nullcontext():
                    again, _ = self._run(aim, key, self._timeout_s)
                self._add(replace(again, again=True))
                if run.failed is not None and again.failed is None:
                    break  # it was not asked for this time: there is nothing to compare

    @property
    def _timeout_s(self) -> float:
        if self._limits.timeout_s is not None:
            return self._limits.timeout_s
        return max(_LEAST_TIMEOUT_S, _TIMES_PLAIN * self._runs[0].seconds)

    def _add(self, run: InjectedRun) -> None:
        """Keep a run, and stop where the next one could not start."""
        self._runs.append(run)
        if run.ended is RunEnd.INTERRUPTED:
            self._stopped = "when it was interrupted"
        elif run.ended is RunEnd.STUCK:
            took = f"which took more than {self._timeout_s:.0f} s and can't be killed"
            self._stopped = f"in run {run.number}, {took}: restart the machine"
        elif run.failed is None and not run.is_plain:
            before = self._runs[-2]  # nothing else has changed since it could be started
            self._runs[-2] = replace(before, left_unfit=True)
            self._stopped = (
                f"after run {before.number}, which left a state that the command can't start from: restart the machine"
            )
        elif run.ended in (RunEnd.CRASHED, RunEnd.HUNG):
            again, _ = self._run(Aim.NOTHING, 0, self._timeout_s)  # whether it still can be started
            self._add(again)

    def _run(self, aim: Aim, wanted: int, timeout_s: float | None) -> tuple[InjectedRun, Told]:
        number, start_ns = len(self._runs), time.monotonic_ns()
        with KernelBugs() as bugs:
            self._injector.begin(number, aim, wanted)
            try:
                status, ended = run_once(self._injector, self._command, self._ending, timeout_s, self._log)
            finally:
                told = self._injector.end(self._name)
            said = bugs.said()
        if bugs.is_fatal:
            ended = RunEnd.CRASHED
        return InjectedRun(number, start_ns, time.monotonic_ns(), told.failed, status, ended, tuple(said)), told


def _ending(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
