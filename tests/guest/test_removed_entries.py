# SPDX-License-Identifier: GPL-2.0-or-later
"""What was looked up in /sys and /proc, and is gone with its module, is no question in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from guest_tool import PROJECT, Guest, GuestResult, build_module
from schemas import validated

pytestmark = pytest.mark.guest

LOOK = """
insmod $1
cat /sys/devices/platform/kleaktrace_entries/state /proc/driver/kleaktrace_entries/state
cat /sys/kernel/debug/kleaktrace_entries/reads
ls /sys/devices/platform/kleaktrace_entries/* /sys/bus/platform/devices
rmmod entries
"""
FORGET = """
insmod $1 forgets=1
rmmod entries
"""


def ran(guest: Guest, kernel_tree: Path, directory: Path, script: str) -> tuple[Any, GuestResult]:
    """What is reported of a script with the module, and how it ended."""
    module = build_module(Path(__file__).with_name("entries_module"), kernel_tree) / "entries.ko"
    (directory / "script.sh").write_text(script)
    file, log = directory / "report.json", directory / "log"
    options = ("--json", str(file), "--log", str(log), "--", "sh", str(directory / "script.sh"), str(module))
    done = guest(str(PROJECT / ".venv/bin/kleaktrace"), "run", *options, rwdirs=[directory])
    return validated(json.loads(file.read_text())), done


def test_a_module_whose_attributes_and_files_were_read_is_clean_without_it(
    guest: Guest, kernel_tree: Path, tmp_path: Path
) -> None:
    document, done = ran(guest, kernel_tree, tmp_path, LOOK)
    assert (tmp_path / "log").read_text().split()[:3] == ["idle", "idle", "0"]
    assert document["settled"]["freed"] >= 4, "the directory, and three that were read: two files and an attribute"
    assert document["verdict"] == "clean", done.stdout
    assert done.status == 0


def test_what_a_module_forgot_in_debugfs_is_not_cached(guest: Guest, kernel_tree: Path, tmp_path: Path) -> None:
    """Nothing but memory has it, so it stays for good: the dentry and inode of a directory."""
    document, done = ran(guest, kernel_tree, tmp_path, FORGET)
    assert done.status == 4, done.stdout
    left = [one for one in document["suspects"] if one["counts_against_clean"]]
    assert {one["verdict"] for one in left} == {"undecided"}
    of_debugfs = [one for one in left if any("debugfs_create_dir" in frame for frame in one["stack"])]
    assert {"dentry", "inode_cache"} <= {one["cache"] for one in of_debugfs}
