# SPDX-License-Identifier: GPL-2.0-or-later
"""However it ends, no probe stays behind; and unless it was killed outright, the result is there."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from host_tools import check_books, read_json, running, wait_until_unloaded

pytestmark = pytest.mark.host

STUBBORN = 'trap "" TERM; echo ready; while :; do sleep 0.1; done'
PATIENT = "echo ready; while :; do sleep 0.1; done"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_trace_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with running(tmp_path, "trace", "--json", file) as tracer:
        tracer.wait_for("call stack")
        programs = tracer.programs()
        assert len(programs) >= 12
        tracer.signal(number)
        done = tracer.end()
    assert done.status == 0, done.stderr
    assert done.complaints == []
    assert done.stdout.count("call stack\n") == 2, "the table of the end"
    assert "lost: nothing" in done.stdout
    check_books(read_json(file))
    wait_until_unloaded(programs)


def test_ending_while_starting(tmp_path: Path) -> None:
    with running(tmp_path, "trace", "--json", tmp_path / "trace.json") as tracer:
        tracer.wait_for_probes()
        programs = tracer.programs()
        tracer.signal(signal.SIGTERM)
        done = tracer.end()
    assert "Traceback" not in done.stderr
    assert done.status in (0, 130)
    wait_until_unloaded(programs)


def test_killed_outright(tmp_path: Path) -> None:
    with running(tmp_path, "trace") as tracer:
        tracer.wait_for("call stack")
        programs = tracer.programs()
        tracer.signal(signal.SIGKILL)
        assert tracer.end().status == -signal.SIGKILL
    wait_until_unloaded(programs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_its_command_and_reports(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with running(tmp_path, "run", "--no-kmemleak", "--json", file, "--", "sh", "-c", PATIENT) as run:
        run.wait_for("ready")
        programs = run.programs()
        run.signal(number)
        done = run.end()
    assert "Traceback" not in done.stderr
    assert "the command failed: killed by signal" in done.stdout
    document = read_json(file)
    # What others do on this machine meanwhile may stand in the way of clean.
    assert done.status == {"clean": 0, "incomplete": 4}[document["verdict"]], done.stdout
    check_books(document)
    assert document["command"]["status"] == -signal.SIGTERM
    wait_until_unloaded(programs)


def test_run_kills_a_stubborn_command_when_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with running(tmp_path, "run", "--no-kmemleak", "--json", file, "--", "sh", "-c", STUBBORN) as run:
        run.wait_for("ready")
        (child,) = _children(run.pid)
        programs = run.programs()
        run.signal(signal.SIGTERM)
        run.wait_for_error("again to kill it")
        time.sleep(0.3)
        assert _children(run.pid) == [child]
        run.signal(signal.SIGTERM)
        done = run.end()
    assert "Traceback" not in done.stderr
    assert done.status == 0
    assert read_json(file)["command"]["status"] == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    wait_until_unloaded(programs)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
