# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/architecture.md says of the tree is so: each room has its row, and tests lie as the code does."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
PACKAGE = PROJECT / "kleaktrace"
PAGE = (PROJECT / "docs" / "architecture.md").read_text()
TESTS = PROJECT / "tests" / "unit"

LAYERS_WITH_ROOMS = ("core", "edge", "views")
NOT_OF_THE_PACKAGE = {"docs", "tools"}
"""Directories of unit tests for what lies elsewhere."""


def rows() -> dict[str, str]:
    """What the table of rooms says is in each."""
    table = PAGE.partition("## Rooms")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.MULTILINE)
    return {room: what for rooms, what in lines for room in re.findall(r"`([^`]+)`", rooms)}


def rooms() -> set[str]:
    """The packages below a layer, and the modules beside them; of other layers, the layer."""
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} - set(LAYERS_WITH_ROOMS)
    for layer in LAYERS_WITH_ROOMS:
        places = [path for path in (PACKAGE / layer).iterdir() if path.suffix == ".py" or path.is_dir()]
        found |= {f"{layer}/{path.stem}" for path in places if not path.name.startswith("__")}
    return found


def test_each_room_has_its_row_and_each_row_its_room() -> None:
    assert rows().keys() == rooms()


def test_the_modules_that_a_row_names_are_there() -> None:
    """Words of several parts; the others may be words of the language, too."""
    modules = {path.stem for path in PACKAGE.rglob("*.py")}
    named = {word for what in rows().values() for word in re.findall(r"`([a-z]+_\w+)`", what)}
    assert named
    assert named <= modules


def test_unit_tests_lie_as_the_code_does() -> None:
    directories = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert {
        str(where)
        for where in directories
        if where.parts and where.parts[0] not in NOT_OF_THE_PACKAGE and not (PACKAGE / where / "__init__.py").exists()
    } == set()


def test_each_test_of_a_view_lies_with_it() -> None:
    """Views alone of kinds: test_frames.py is of all of them."""
    flat = {path.name for path in (TESTS / "views").glob("test_*.py")}
    assert flat == {"test_frames.py"}
