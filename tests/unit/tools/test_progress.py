# SPDX-License-Identifier: GPL-2.0-or-later
"""How far the tools say they are: on a terminal, and in a log."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from guest_lib import programs, progress
from guest_lib.errors import GuestError
from guest_lib.programs import StepCounter, run_logged
from guest_lib.progress import Progress


class Terminal:
    """Stands for stderr."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put in the place of stderr in the test itself: after fixtures, pytest puts its own there."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(progress, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(progress, "_LIVE_S", 0.0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_on_a_terminal_one_line_is_written_anew_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    one = Progress()
    one.tell("first, {}".format)
    one.tell(lambda took: "second " + "x" * 100)
    one.end()
    one.tell("too late".format)
    first, second, after = terminal.text.split("\r\x1b[K")[1:]
    assert (first, second, after) == ("guest: first, 0 s", "guest: second xxxxxxxxxxxxxxx", "")


def test_what_takes_no_time_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setattr(progress, "_PATIENCE_S", 60.0)
    one = Progress()
    one.tell("first".format)
    one.end()
    assert terminal.text == ""


def test_a_log_has_whole_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Progress()
    one.tell("too early".format)
    monkeypatch.setattr(progress, "_PLAIN_S", 0.0)
    one = Progress()
    one.tell("… {}: now".format)
    one.end()
    assert capsys.readouterr().err == "guest: … 0 s: now\n"


def test_steps_of_a_build_are_counted_from_where_it_begins(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("  CC      before.o\n")
    counter = StepCounter(log)
    with log.open("a") as stream:
        stream.write("  CC      a.o\nwarning: x\n  LD [M]  b.ko\n  AR  ")
        stream.flush()
        assert counter.count() == 2
        stream.write("    c.a\n   see above\n")
    assert counter.count() == 3


def test_a_build_tells_how_many_of_its_steps_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_S", 0.2)
    log = tmp_path / "log"
    script = "echo '  CC      {a}.o'; while ! test -e end; do sleep 0.1; done"
    monkeypatch.setattr(Progress, "tell", _ends(tmp_path, Progress.tell))
    run_logged(["sh", "-c", script], log, "no", "fix", directory=tmp_path, steps=2300)
    assert "1 of about 2,300 steps: CC      {a}.o\n" in capsys.readouterr().err


def _ends(directory: Path, tell):
    def told(self: Progress, what: str) -> None:
        tell(self, what)
        (directory / "end").touch()

    return told


def test_what_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match=r"exit status 3(.*\n)*why it failed"):
        run_logged(["sh", "-c", "echo why it failed; exit 3"], tmp_path / "log", "it failed", "mend it")
    assert programs.last_lines(tmp_path / "log", 1) == "why it failed"
