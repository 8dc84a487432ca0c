# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures of the running kernel compared: what a busy machine does anyway is no news, and what is added is."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_tools import kleaktrace, load_on_all_cores, read_json

from kleaktrace.core.growth.detection import MIN_SURVIVORS
from kleaktrace.edge.capture.capture_reader import read_capture

pytestmark = pytest.mark.host

SECONDS = 12


@contextlib.contextmanager
def opening_files(per_second: int) -> Iterator[None]:
    """A process opens so many files a second, and keeps them."""
    script = Path(__file__).with_name("leak_at_rate.py")
    with subprocess.Popen(
        [sys.executable, str(script), "opens-files", str(per_second)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()


def record(directory: Path, load: Path, name: str, per_second: int = 0) -> Path:
    """Record the same churn; with files that are kept, if so many are to be opened a second."""
    opening = opening_files(per_second) if per_second else contextlib.nullcontext()
    with load_on_all_cores(load, "diff-churn", "churn", SECONDS * 10), opening:
        kleaktrace(directory, "record", "-o", directory / name, "--duration", SECONDS)
    return directory / name


def left_by_others(capture: Path, stack: list[str]) -> int:
    """How many outstanding allocations of a call stack in a capture are not of a process that was alive at its end."""
    recording = read_capture(capture)
    stacks = recording.names.stacks
    keys = [key for key in recording.ledger.snapshot().stacks.tolist() if stacks.get(key).lines() == stack]
    rows = recording.ledger.outstanding(keys)
    assert rows.size
    return sum(1 for tgid in rows["tgid"].tolist() if tgid not in recording.alive)


def test_only_what_was_added_is_news(load: Path, tmp_path: Path) -> None:
    before, again = (record(tmp_path, load, name) for name in ("before", "again"))
    after = record(tmp_path, load, "after", per_second=200)

    def compared(first: Path, second: Path, *options: str) -> tuple[int, dict[str, Any]]:
        done = kleaktrace(tmp_path, "diff", "--json", tmp_path / "diff.json", *options, first, second)
        return done.status, read_json(tmp_path / "diff.json")

    status, same = compared(before, again, "--fail-on", "growth=1")
    assert (status, same["changes"]) == (0, [])
    status, more = compared(again, after, "--fail-on", "growth=4K")
    assert status == 1
    assert {change["change"] for change in more["changes"]} <= {"new", "grown"}
    assert all(any("do_filp_open" in frame for frame in change["stack"]) for change in more["changes"])
    assert 120 * SECONDS < more["changes"][0]["objects"]["estimate"] < 320 * SECONDS
    # Others open files, too; of those that have ended some may not be freed yet on a machine that has much to do.
    largest, others = more["changes"][0], left_by_others(after, more["changes"][0]["stack"])
    assert largest["held"] == ("processes that live on may hold it" if others < MIN_SURVIVORS else ""), others
