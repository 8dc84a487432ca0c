# SPDX-License-Identifier: GPL-2.0-or-later
"""A failure in the middle of a walk that the kernel does not survive: tools/inject boots it again, and goes on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from guest_tool import PROJECT, build_module
from injected_driver import CLEAN, LEAKING, caller, leaked, outcomes
from schemas import validated

pytestmark = pytest.mark.guest

DEADLY = "alloc_map"


def test_what_the_kernel_died_of_is_named_and_the_rest_is_judged(
    guest_options: list[str], kernel_tree: Path, tmp_path: Path
) -> None:
    driver = build_module(Path(__file__).with_name("inject_module"), kernel_tree) / "inject_paths.ko"
    command = f"insmod {driver} bad=oops && rmmod inject_paths"
    done = subprocess.run(
        [
            *(PROJECT / "tools" / "inject", tmp_path, *guest_options, "--keep-files", "--cpus=1", "--timeout=900"),
            *("--", "--module", "inject_paths", "--", "sh", "-c", command),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=2000,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "kernel NULL pointer dereference" in done.stderr
    report = validated(json.loads((tmp_path / "2.json").read_text()))
    found = outcomes(report)
    assert found.pop(DEADLY) == {"crash"}
    assert {call for call, said in found.items() if "crash" in said} == set()
    assert {call for call in CLEAN if found[call] != {"clean"}} == set()
    leaks = leaked(report)
    assert {call: leaks.get(call) for call in LEAKING if call != DEADLY} == {
        call: leaking for call, leaking in LEAKING.items() if call != DEADLY
    }
    walk = json.loads((tmp_path / "walk").read_text())
    assert (walk["finished"], walk["running"]) == (True, False)
    assert [caller(one["stack"]) for one in walk["known"] if one["outcome"] == "crash"] == [DEADLY]
