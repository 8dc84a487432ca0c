# SPDX-License-Identifier: GPL-2.0-or-later
"""Some pieces of the museum that build for the standard guest kernel: `tools/museum` shows all, in the wide one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from guest_tool import PROJECT

sys.path.insert(0, str(PROJECT / "tools"))

from museum_lib import build, guest, table
from museum_lib.guest import Exhibit
from museum_lib.piece import chosen, read_all
from museum_lib.results import Row
from reports import console, printed

pytestmark = pytest.mark.guest

# One trace for those that leak, one for those repaired, in one boot. A reference is never dropped, one is kept where
# kmemleak sees it, and memory is simply not freed.
NAMES = ("cuse_open", "llc_autobind", "qrtr_tun_write")

ROUNDS = 8
"""The fewest that tell what llc_autobind leaves behind, to which something points (core/repetition/sign_test.py)."""


@pytest.fixture(scope="module")
def rows(kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    pieces = chosen(read_all(PROJECT / "tests" / "museum"), NAMES)
    exhibits = [
        Exhibit(piece, repaired, build.modules(kernel_tree, piece, edited=not repaired, say=print))
        for repaired in (False, True)
        for piece in pieces
    ]
    place = tmp_path_factory.mktemp("museum")
    found = guest.run(exhibits, place, kernel_tree, tools=["kleaktrace"], rounds=ROUNDS)
    screen = console(160)
    table.show(screen, found)
    print(printed(screen))
    return found


def test_every_leak_is_confirmed_named_and_counted(rows: list[Row]) -> None:
    leaking = [row for row in rows if not row.repaired]
    assert [row.piece.name for row in leaking] == list(NAMES)
    assert [(row.piece.name, row.failure) for row in leaking if row.failure] == []
    assert [row.piece.name for row in leaking if not row.is_right] == []


def test_what_is_repaired_is_clean(rows: list[Row]) -> None:
    repaired = [row for row in rows if row.repaired]
    assert len(repaired) == len(NAMES)
    assert [(row.piece.name, row.failure) for row in repaired if row.failure] == []
    assert {row.kleaktrace.verdict for row in repaired if row.kleaktrace} == {"clean"}
