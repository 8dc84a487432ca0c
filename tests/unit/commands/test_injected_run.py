# SPDX-License-Identifier: GPL-2.0-or-later
"""One run: its end, and the end that is made for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from kleaktrace.commands import injected_run
from kleaktrace.commands.injected_run import run_once
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.core.evidence.injected_runs import RunEnd
from kleaktrace.edge.machine.processes import is_alive
from kleaktrace.errors import EnvironmentRefusal


class NoInjector:
    """Lets nothing fail. exited_with: the process of the run that ended."""

    exited_with = 0

    def command(self, command: Sequence[str]) -> Sequence[str]:
        return command

    def exited(self, pid: int) -> None:
        self.exited_with = pid


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeferredInterrupt]:
    monkeypatch.setattr(injected_run, "_KILL_AFTER_S", 0.3)
    with DeferredInterrupt() as made:
        yield made


def test_a_run_ends_with_the_commands_status(ending: DeferredInterrupt) -> None:
    injector = NoInjector()
    assert run_once(injector, ["sh", "-c", "exit 3"], ending, 20.0) == (3, RunEnd.EXITED)  # type: ignore[arg-type]
    assert injector.exited_with > 1


def test_what_it_prints_goes_to_the_log_if_there_is_one(ending: DeferredInterrupt, tmp_path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as log:
        run_once(NoInjector(), ["sh", "-c", "echo one; echo two >&2"], ending, 20.0, log)  # type: ignore[arg-type]
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_what_takes_too_long_is_ended(ending: DeferredInterrupt) -> None:
    status, ended = run_once(NoInjector(), ["sh", "-c", "sleep 60; true"], ending, 0.1)  # type: ignore[arg-type]
    assert (status, ended) == (-15, RunEnd.HUNG)


def test_what_does_not_want_to_end_is_killed_with_all_that_it_has_started(ending: DeferredInterrupt, tmp_path) -> None:
    file = tmp_path / "pid"
    command = f"trap '' TERM; (trap '' TERM; echo $$ > {file}; while :; do sleep 0.05; done) & wait; wait"
    status, ended = run_once(NoInjector(), ["sh", "-c", command], ending, 0.5)  # type: ignore[arg-type]
    assert (status, ended) == (-9, RunEnd.HUNG)
    deadline = time.monotonic() + 20
    while is_alive(int(file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(int(file.read_text()))


def test_what_cannot_be_started_is_refused(ending: DeferredInterrupt) -> None:
    with pytest.raises(EnvironmentRefusal, match="could not be started"):
        run_once(NoInjector(), ["/nowhere/at/all"], ending, 1.0)  # type: ignore[arg-type]
