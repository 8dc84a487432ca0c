# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures of the running kernel: the same report again, whatever ends the recorder, and every event once more."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from host_tools import kleaktrace, read_json, running
from requesters import headed_by_allocators

from kleaktrace.edge.capture.capture_reader import read_capture
from kleaktrace.views.documents.report import document

pytestmark = pytest.mark.host


def test_a_run_is_reported_again_as_it_was(tmp_path: Path) -> None:
    capture, live, again = (tmp_path / name for name in ("capture", "live.json", "again.json"))
    ran = kleaktrace(
        tmp_path, "run", "--no-kmemleak", "--json", live, "--capture", capture, "ls", "-R", "/usr/share/doc/python3"
    )
    reported = kleaktrace(tmp_path, "report", "--json", again, capture)
    assert again.read_bytes() == live.read_bytes()
    assert reported.status == ran.status
    assert ran.stdout.endswith(reported.stdout), "before that, the command itself had its say"


def allocations_kept(capture: Path) -> int:
    """How many allocations a capture that is still being written tells of: none yet while only frees are seen."""
    if not (capture / "flushes.arrows.gz").exists():
        return 0
    return read_capture(capture).ledger.totals().allocations


def test_however_often_it_is_killed_what_was_kept_is_read(tmp_path: Path) -> None:
    chosen = random.Random(1)
    for trial in range(5):
        capture = tmp_path / str(trial)
        with running(tmp_path, "record", "-o", capture, *(["--events"] if trial % 2 else [])) as recorder:
            recorder.wait_for_error("recording to")
            while not allocations_kept(capture):
                time.sleep(0.05)
            time.sleep(chosen.random() * 2)
            recorder.signal(signal.SIGKILL)
            killed_ns = time.monotonic_ns()
            recorder.end()
        recording = read_capture(capture)
        (window,) = recording.loss.windows[-1:]
        assert window.from_ns < killed_ns
        totals = recording.ledger.totals()
        assert totals.allocations == totals.frees + totals.implied_frees + totals.outstanding > 0
        report = document(recording.report(recording.judge()))
        assert report["verdict"] != "clean"
        assert any("breaks off" in gap for gap in report["gaps"])


def test_no_stack_is_headed_by_a_function_that_only_allocates(tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    work = "ls -lR /usr/share/doc > files; cp files copied; tar cf all files copied; python3 -c 'import json'"
    kleaktrace(tmp_path, "run", "--no-kmemleak", "--capture", capture, "sh", "-c", f"cd {tmp_path}; {work}")
    assert headed_by_allocators(read_capture(capture)) == []


def test_every_event_is_played_again(tmp_path: Path) -> None:
    capture, recorded, again = (tmp_path / name for name in ("capture", "recorded.json", "again.json"))
    kleaktrace(tmp_path, "record", "-o", capture, "--events", "--duration", "3")
    kleaktrace(tmp_path, "report", "--json", recorded, capture)
    done = kleaktrace(tmp_path, "trace", "--replay", capture, "--speed", "10", "--json", again)
    assert done.status == 0
    played, known = read_json(again), read_json(recorded)
    for name in ("window", "loss", "totals", "outstanding", "implied_from", "growing", "stack_check"):
        assert played[name] == known[name], name
