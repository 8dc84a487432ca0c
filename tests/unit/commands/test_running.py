# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that is traced: rounds, failures, and its time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from kleaktrace.commands.running import Launch, run_command
from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.edge.machine.invoking_user import InvokingUser
from kleaktrace.edge.machine.marks import VARIABLE
from kleaktrace.edge.machine.processes import ancestors, descendants, environment, living
from kleaktrace.errors import UsageError


def ran(*command: str, repeat: int = 1, timeout_s: float | None = None):
    done: list[int] = []
    with DeferredInterrupt() as ending:
        return run_command(Launch(command), ending, repeat, timeout_s, done.append), done


def test_runs_are_rounds_one_after_the_other() -> None:
    before = time.monotonic_ns()
    found, done = ran("true", repeat=3)
    assert (found.rounds.count, done) == (3, [1, 2, 3])
    assert all(start < end for start, end in pairwise((before, *found.rounds.edges, time.monotonic_ns())))
    assert found.rounds.edges[-1] == found.ended_ns
    assert (found.result.status, found.result.runs, found.result.failed_runs) == (0, 3, 0)


def test_the_first_failure_is_told_and_the_others_are_counted(tmp_path: Path) -> None:
    script = f"echo >> {tmp_path}/n; exit $(($(wc -l < {tmp_path}/n) - 1))"
    found, _ = ran("sh", "-c", script, repeat=3)
    assert (found.result.status, found.result.runs, found.result.failed_runs) == (1, 3, 2)


def test_when_the_time_is_up_all_that_was_started_ends_and_the_round_does_not_count(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/child; sleep 1000"
    found, _ = ran("sh", "-c", script, repeat=5, timeout_s=0.5)
    assert (found.result.timed_out, found.result.runs, found.rounds.count) == (True, 1, 0)
    assert found.result.status == -signal.SIGTERM
    child = int((tmp_path / "child").read_text())
    while child in living():  # it has been told, and ends when it gets a processor; else this test does not end
        time.sleep(0.01)


def test_what_can_not_be_run_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Permission denied"):
        ran(str(tmp_path / "file"))


def test_output_is_kept_apart_of_all_rounds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "log").open("wb") as log, DeferredInterrupt() as ending:
        run_command(Launch(("sh", "-c", "echo out; echo err >&2"), log=log), ending, 2, None, lambda done: None)
    assert (tmp_path / "log").read_text() == "out\nerr\n" * 2
    assert capfd.readouterr() == ("", "")


def test_commands_are_looked_for_where_their_user_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o755)
    user = InvokingUser("ann", os.geteuid(), os.getegid(), (), {"PATH": str(tmp_path), "EDITOR": "ed"})
    Launch(("mine",), user).refuse_missing()
    with pytest.raises(UsageError, match="no command 'true'"):
        Launch(("true",), user).refuse_missing()
    with pytest.raises(UsageError, match="no command 'mine'"):
        Launch(("mine",)).refuse_missing()
    monkeypatch.setenv(VARIABLE, "/tmp/marks")
    assert Launch(("mine",), user).environment == {"PATH": str(tmp_path), "EDITOR": "ed", VARIABLE: "/tmp/marks"}


def test_processes_are_known_by_their_parents() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 1000 & wait"], env={"KT_TEST": "a=b"}) as child:
        try:
            while len(descendants(child.pid)) < 2:
                time.sleep(0.01)
            family = descendants(os.getpid())
            assert family[0] == os.getpid()
            assert set(descendants(child.pid)) <= set(family)
            assert os.getpid() in ancestors(child.pid)
            assert child.pid in living()
            assert environment(child.pid)[b"KT_TEST"] == b"a=b"
        finally:
            for pid in reversed(descendants(child.pid)):
                os.kill(pid, signal.SIGKILL)


def test_of_what_is_gone_nothing_is_known() -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert child.pid not in living()
    assert environment(child.pid) == {}
    assert list(ancestors(child.pid)) == [child.pid]
