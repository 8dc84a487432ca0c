# SPDX-License-Identifier: GPL-2.0-or-later
"""The client against a real kmemleak: states, scans under signals, reading, dump, clear, off."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from schemas import validated

pytestmark = pytest.mark.guest

ROOT = Path(__file__).resolve().parent.parent.parent
GUEST = ROOT / "tools" / "guest"


def guest(*arguments: str) -> str:
    done = subprocess.run(
        [GUEST, "--keep-files", "--cpus=1", *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("guest")
    build_dir = guest("--build-dir").strip()
    script = str(ROOT / "tests" / "guest" / "kmemleak_scenario.py")
    python = str(ROOT / ".venv" / "bin" / "python")
    guest("--rwdir", str(out), "--", python, script, build_dir, str(out / "result.json"))
    return json.loads((out / "result.json").read_text())


def test_states_and_the_fix_for_debugfs(seen: Any) -> None:
    assert seen["states"] == {
        "mounted": "on",
        "nobody": "no permission",
        "unmounted": "debugfs not mounted",
        "after fix": "on",
    }


def test_signals_end_a_naive_scan_but_not_ours(seen: Any) -> None:
    assert seen["naive"] == 0
    assert seen["listed"][-1] >= 10
    assert seen["ordered"]


def test_ctrl_c_comes_through(seen: Any) -> None:
    assert seen["interrupted"]


def test_every_object_of_a_real_report_is_read(seen: Any) -> None:
    assert seen["objects"] == seen["headers"] >= 10
    assert seen["problems"] == []
    assert seen["comms"] == ['a", pid\n\x1b\\xff"b']
    assert "slab" in seen["kinds"]
    assert seen["gone"] >= 1  # the module was unloaded


def test_the_same_report_in_the_kernel_log(seen: Any) -> None:
    assert seen["log"] == {"missing": [], "problems": []}


def test_dump(seen: Any) -> None:
    assert seen["dump"] == {
        "tracked": True,
        "size": True,
        "comm": 'a", pid\n\x1b\\xff"b',
        "min_count": 1,
        "frames": True,
    }
    assert not seen["unknown"]


def test_the_commands(seen: Any) -> None:
    results = seen["commands"]["results"]
    told = {line: output for line, _, output in results[:5]}
    assert "kmemleak is on" in told["status"]
    assert "suspects listed" in told["scan"]
    assert r'by "a", pid\n\x1b\xff"b" (pid ' in told["show"]
    # Nothing is added to the list without a scan, but what is on it may be freed meanwhile.
    shown = {one["address"] for one in validated(json.loads(told["show --json"]))["objects"]}
    assert set(seen["commands"]["after_show"]) <= shown <= set(seen["commands"]["before_show"])
    assert len(shown) >= 10
    assert "unreferenced in the last scan" in told[results[4][0]]
    codes = [(line, code) for line, code, _ in results[5:]]
    assert codes == [
        ("dump 1000", 0),
        ("stack on", 0),
        ("scan off", 0),
        ("on", 0),
        ("clear", 0),
        ("show", 0),
        ("off", 1),  # no terminal to ask on: UsageError, which cli.main turns into an exit code
        ("off --yes", 0),
        ("status", 3),
        ("on", 1),
    ]
    assert "no object that starts at 0x1000" in results[5][2]
    assert "lists nothing" in results[10][2]
    assert "disabled at run time" in results[13][2]


def test_off(seen: Any) -> None:
    assert seen["off"] == {"state": "off", "reason": "disabled_at_run_time"}
    assert seen["refused"]["kind"] == "EnvironmentRefusal"
    assert "reboot" in seen["refused"]["fix"]


def test_switched_off_at_boot(tmp_path: Path) -> None:
    code = (
        "from kleaktrace.edge.kmemleak.diagnosis import diagnose; import sys, pathlib; h = diagnose();"
        "pathlib.Path(sys.argv[1]).write_text(f'{h.state.value} {h.reason.value} {h.evidence}')"
    )
    python = str(ROOT / ".venv" / "bin" / "python")
    result = tmp_path / "result"
    guest("--append", "kmemleak=off", "--rwdir", str(tmp_path), "--", python, "-c", code, str(result))
    assert result.read_text() == "off boot_off kmemleak=off"
