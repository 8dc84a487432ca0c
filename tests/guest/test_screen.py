# SPDX-License-Identifier: GPL-2.0-or-later
"""The screen of trace in the guest: a real kmemleak scans when a key is pressed, and rows get verdicts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from guest_tool import PROJECT, Guest
from schemas import validated

pytestmark = pytest.mark.guest

LEAKED = 16
LISTED = range(LEAKED * 3 // 4, LEAKED + 1)
"""Stale words may point to some, and kmemleak does not list those."""

SCENARIO = PROJECT / "tests" / "guest" / "screen_scenario.py"


@pytest.fixture(scope="module")
def out(guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("screen")
    python = PROJECT / ".venv" / "bin" / "python"
    result = guest(str(python), str(SCENARIO), str(directory), str(lab_module), rwdirs=[directory], timeout_s=900)
    assert result.status == 0, result.stdout + result.stderr
    return directory


def test_what_was_scanned_by_a_key_is_judged_on_the_screen(out: Path) -> None:
    screen = (out / "screen").read_text()
    assert "1 of 3 scans done" in screen, "nobody could see how far it was"
    found = re.search(r"scanned: (\d+) confirmed, 0 dismissed, ", screen)
    assert found is not None
    assert int(found[1]) in LISTED
    assert f"confirmed ({found[1]}): " in screen, "the pane of the row"


def test_the_report_at_the_end_has_the_verdicts(out: Path) -> None:
    report = validated(json.loads((out / "trace.json").read_text()))
    confirmed = [one for one in report["suspects"] if one["verdict"] == "confirmed"]
    assert len(confirmed) in LISTED
    (leaked,) = [one for one in report["outstanding"] if one["requester"].startswith("lab_leak_kzalloc_1520")]
    assert leaked["count"] == LEAKED
    assert {one["requester"] for one in confirmed} == {"lab_leak_kzalloc_1520 [kleaktrace_lab]"}
    leak = f"LEAK kleaktrace_lab: lab_leak_kzalloc_1520: {len(confirmed)} objects"
    assert leak in (out / "screen").read_text()
    assert int((out / "status").read_text()) == 0, "a trace that was ended by hand"
