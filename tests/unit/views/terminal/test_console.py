# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import sys

import pytest

from kleaktrace.views.terminal import console


@pytest.mark.parametrize("stderr", [False, True])
def test_into_a_pipe_nothing_is_cut_wrapped_or_coloured(capsys: pytest.CaptureFixture[str], stderr: bool) -> None:
    line = "[bold]0xffff888100010000[/bold] " + "word " * 500
    console.make(stderr).print(line)
    out, err = capsys.readouterr()
    written, other = (err, out) if stderr else (out, err)
    assert written == line.replace("[bold]", "").replace("[/bold]", "") + "\n"
    assert other == ""


def test_a_reader_that_is_gone_is_an_error_not_an_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = console.make()

    def gone(_: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(screen.file, "write", gone)
    with pytest.raises(BrokenPipeError):
        screen.print("text")


def test_each_stream_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setenv("TERM", "xterm")  # a dumb one is always 80 wide
    assert (console.make().width, console.make(stderr=True).width) == (72, 10_000)
