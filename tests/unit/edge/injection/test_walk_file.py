# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a walk over the death of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleaktrace.core.evidence.injected_runs import Asked, FailedAllocation
from kleaktrace.edge.injection.walk_file import KnownPath, WalkFile
from kleaktrace.errors import UsageError

RING = KnownPath(0xFEEDFACECAFEBEEF, ("alloc_ring+0x12/0x40 [drv]",), "leaks")
MAP = FailedAllocation(0, ("alloc_map+0x12/0x40 [drv]",), 8192, Asked.PAGES, 0xFEEDFACECAFEBEE1)


def test_what_was_judged_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "walk"
    WalkFile.opened(file, ["true"]).add([RING], finished=True)
    again = WalkFile.opened(file, ["true"])
    assert again.known == [RING]
    assert not again.running
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_a_run_died_of_is_known(tmp_path: Path) -> None:
    file = tmp_path / "walk"
    first = WalkFile.opened(file, ["true"])
    with first.run(MAP):
        left = file.read_bytes()
    assert not WalkFile.opened(file, ["true"]).running
    file.write_bytes(left)
    second = WalkFile.opened(file, ["true"])
    assert second.running
    assert second.died() == MAP
    third = WalkFile.opened(file, ["true"])
    assert third.known == [KnownPath(MAP.key, MAP.stack, "crash")]
    assert (third.running, third.trying, third.newcomers) == (False, None, True)


def test_when_nobody_knows_what_a_run_died_of_there_are_no_more_newcomers(tmp_path: Path) -> None:
    file = tmp_path / "walk"
    first = WalkFile.opened(file, ["true"])
    with first.run(None):
        left = file.read_bytes()
    file.write_bytes(left)
    assert WalkFile.opened(file, ["true"]).died() is None
    third = WalkFile.opened(file, ["true"])
    assert (third.known, third.running, third.newcomers) == ([], False, False)


def test_another_commands_file_is_refused(tmp_path: Path) -> None:
    WalkFile.opened(tmp_path / "walk", ["true"])
    with pytest.raises(UsageError, match="another command: true"):
        WalkFile.opened(tmp_path / "walk", ["false"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"inject": 1, "command": ["true"], "known": [1]}', "\0"])
def test_what_is_no_such_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "walk").write_text(text)
    with pytest.raises(UsageError):
        WalkFile.opened(tmp_path / "walk", ["true"])


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        WalkFile.opened(tmp_path / "missing" / "walk", ["true"])
