# SPDX-License-Identifier: GPL-2.0-or-later
"""What was looked up in /sys and /proc, and is gone with its module, is no question in the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guest_tool import PROJECT, Guest, build_module
from schemas import validated

pytestmark = pytest.mark.guest

LOOK = """
insmod $1
cat /sys/devices/platform/kleaktrace_entries/state /proc/driver/kleaktrace_entries/state
ls /sys/devices/platform/kleaktrace_entries/* /sys/bus/platform/devices
rmmod entries
"""


def test_a_module_whose_attributes_and_files_were_read_is_clean_without_it(
    guest: Guest, kernel_tree: Path, tmp_path: Path
) -> None:
    module = build_module(Path(__file__).with_name("entries_module"), kernel_tree) / "entries.ko"
    (tmp_path / "look.sh").write_text(LOOK)
    file = tmp_path / "report.json"
    options = (
        "--json",
        str(file),
        "--log",
        str(tmp_path / "looked"),
        "--",
        "sh",
        str(tmp_path / "look.sh"),
        str(module),
    )
    done = guest(str(PROJECT / ".venv/bin/kleaktrace"), "run", *options, rwdirs=[tmp_path])
    assert (tmp_path / "looked").read_text().split()[:2] == ["idle", "idle"]
    document = validated(json.loads(file.read_text()))
    assert document["settled"]["freed"] >= 4, "the directory, and three that were read: two files and an attribute"
    assert document["verdict"] == "clean", done.stdout
    assert done.status == 0
