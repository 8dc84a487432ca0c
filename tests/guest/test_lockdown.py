# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that lets nobody read its memory: each command refuses in words, and the doctor says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guest_tool import PROJECT, Guest
from schemas import validated

pytestmark = pytest.mark.guest

SCRIPT = """
cd $2
$1 doctor --json > doctor.json
echo doctor $? >> statuses
for command in "run true" trace "inject true" confirm "kmemleak scan"; do
	timeout 60 $1 $command > out 2> err < /dev/null
	echo $command $? >> statuses
	cat out err >> said
done
"""


def test_confidentiality_is_refused_in_words(guest: Guest, tmp_path: Path) -> None:
    program = str(PROJECT / ".venv/bin/kleaktrace")
    append = ["lockdown=confidentiality"]
    guest("sh", "-c", SCRIPT, "sh", program, str(tmp_path), rwdirs=[tmp_path], append=append)
    said = (tmp_path / "said").read_text()
    statuses = [line.rpartition(" ")[2] for line in (tmp_path / "statuses").read_text().splitlines()]
    assert statuses == ["3"] * 6, said
    assert "a bug of kleaktrace" not in said
    checks = {one["name"]: one for one in validated(json.loads((tmp_path / "doctor.json").read_text()))["checks"]}
    assert checks["lockdown"]["health"] == "broken"
    assert {checks[name]["health"] for name in ("kmemleak", "injection")} == {"missing"}
