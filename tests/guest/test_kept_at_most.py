# SPDX-License-Identifier: GPL-2.0-or-later
"""What core code keeps so many of is excused up to that number, and not beyond."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guest_tool import PROJECT, Guest, build_module
from schemas import validated

pytestmark = pytest.mark.guest

SECONDS = 45


def test_heads_of_skbs_that_grow_are_no_list_of_the_processors(guest: Guest, kernel_tree: Path, tmp_path: Path) -> None:
    """They are all that grows: the clones share the data of one."""
    module = build_module(Path(__file__).with_name("clones_module"), kernel_tree) / "clones.ko"
    file = tmp_path / "report.json"
    script = f"insmod {module}; sleep {SECONDS}"
    program = str(PROJECT / ".venv/bin/kleaktrace")
    done = guest(program, "run", "--json", str(file), "--", "sh", "-c", script, rwdirs=[tmp_path])
    document = validated(json.loads(file.read_text()))
    (clones,) = [one for one in document["growing"] if any("clone_more" in frame for frame in one["stack"])]
    assert clones["outstanding"] > 64 * 2, done.stdout
    assert (document["verdict"], done.status) == ("incomplete", 4)
