# SPDX-License-Identifier: GPL-2.0-or-later
"""The crowd: what becomes of a trace in which the guest died."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from crowd_lib import one_round
from crowd_lib.casualties import without_culprit


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0.json").write_text("{}")
    (tmp_path / "1.json").touch()
    return tmp_path


def test_the_module_that_was_being_tried_is_taken_out_and_the_rest_tried_again(directory: Path) -> None:
    plan = [["a", "b"], ["c", "d"], ["e"]]
    (directory / "1.failed.trying").write_text("d")
    assert without_culprit(plan, directory) == "d"
    assert plan == json.loads((directory / "plan.json").read_text()) == [["a", "b"], ["c"], ["e"]]
    assert (directory / "1.failed").read_text() == "d ended the guest, or took too long\n"
    assert not (directory / "1.json").exists()
    assert (directory / "0.json").exists()


def test_a_guest_that_died_of_no_module_gets_no_second_chance(directory: Path) -> None:
    plan = [["a", "b"], ["c", "d"], ["e"]]
    assert without_culprit(plan, directory) is None
    assert (directory / "1.json").exists()


def test_a_round_says_which_module_it_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    failed = tmp_path / "0.failed"

    def run(*command: str) -> str | None:
        seen.append(f"{command[-1]}: {Path(f'{failed}.trying').read_text()}")
        return "no such module"

    monkeypatch.setattr(one_round, "_run", run)
    monkeypatch.setattr(one_round, "_MOUNT", tmp_path / "mount")
    monkeypatch.setattr(sys, "argv", ["one_round.py", str(failed), "a", "b"])
    one_round.main()
    assert seen == ["a: a", "b: b"]
    assert failed.read_text().splitlines() == ["a does not load: no such module", "b does not load: no such module"]
    assert not Path(f"{failed}.trying").exists()


def test_a_device_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "never")
    monkeypatch.setattr(one_round, "_READ_TIMEOUT_S", 1)
    monkeypatch.setattr(os, "O_NONBLOCK", 0)
    with pytest.raises(TimeoutError):
        one_round._read(tmp_path / "never")
