# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks get from a command to the session that runs it, however deep it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kleaktrace.edge.machine.marks import VARIABLE, Marks, marks, set_mark
from kleaktrace.errors import UsageError

SET = "import sys; from kleaktrace.edge.machine.marks import set_mark; set_mark(sys.argv[1])"


def test_marks_of_children_and_their_children_arrive_in_time() -> None:
    before = time.monotonic_ns()
    with marks() as session:
        subprocess.run([sys.executable, "-c", SET, "first"], check=True)
        subprocess.run(["sh", "-c", f'{sys.executable} -c "$0" "second one"; true', SET], check=True)
        found = session.read()
    assert [name for _, name in found] == ["first", "second one"]
    assert before < found[0][0] < found[1][0] < time.monotonic_ns()


def test_a_mark_is_set_as_of_when_its_program_was_started() -> None:
    slow = "import time; time.sleep(1); " + SET
    with marks() as session:
        before = time.monotonic_ns()
        subprocess.run([sys.executable, "-c", slow, "late"], check=True)
        ((at_ns, _),) = session.read()
    assert at_ns < before + 500_000_000


def test_what_was_done_before_a_mark_comes_before_it() -> None:
    with marks() as session:
        for _ in range(5):
            done = time.monotonic_ns()
            subprocess.run([sys.executable, "-c", SET, "next"], check=True)
            assert session.read()[-1][0] > done


def test_a_child_without_our_environment_finds_the_session_by_its_parents() -> None:
    with marks() as session:
        bare = f'env -i PATH={os.environ["PATH"]} {sys.executable} -c "$0" bare; true'
        subprocess.run(["sh", "-c", bare, SET], check=True)
        assert [name for _, name in session.read()] == ["bare"]


def test_outside_of_a_session_there_is_nothing_to_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UsageError, match="nothing to mark"):
        set_mark("lonely")


def test_a_session_that_is_over_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="No such file") as refusal:
        set_mark("late")
    assert "over" in refusal.value.fix


@pytest.mark.parametrize("name", ["", "two\nlines", "\x1b[2J", "x" * 201])
def test_what_is_no_name_is_refused(name: str) -> None:
    with marks() as session:
        with pytest.raises(UsageError, match="no name for a mark"):
            set_mark(name)
        assert session.read() == []


def test_what_somebody_else_wrote_is_refused_with_its_text(tmp_path: Path) -> None:
    (tmp_path / "marks").write_text("12 fine\nnot a mark\n")
    with (tmp_path / "marks").open() as stream, pytest.raises(ValueError, match="'not a mark'"):
        Marks(stream.fileno()).read()


def test_what_was_put_in_the_place_of_the_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root:x:0:0\n")
    with marks() as session:
        Path(os.environ[VARIABLE]).unlink()
        Path(os.environ[VARIABLE]).symlink_to(tmp_path / "secret")
        assert session.read() == []


def test_the_file_is_gone_afterwards_and_the_environment_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "outer")
    with marks():
        inner = os.environ[VARIABLE]
        assert Path(inner).stat().st_mode & 0o777 == 0o600
    assert not Path(inner).exists()
    assert os.environ[VARIABLE] == "outer"
