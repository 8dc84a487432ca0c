# SPDX-License-Identifier: GPL-2.0-or-later
"""Where there can be a screen with keys, and why not elsewhere."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from made_up_source import MadeUpSource

from kleaktrace.commands import trace as trace_module
from kleaktrace.commands import trace_screen as screen_module
from kleaktrace.commands.trace_screen import no_screen, show_trace_screen
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.session.session import Session
from kleaktrace.views.screen import trace_screen as view
from kleaktrace.views.screen.bars import ASCII, BLOCKS
from kleaktrace.views.terminal import console as console_module


class Tty:
    encoding = "utf-8"

    def __init__(self, tty: bool = True) -> None:
        self.isatty = lambda: tty


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen_module, "sys", SimpleNamespace(stdin=Tty(), stderr=Tty()))
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_there_is_a_screen() -> None:
    assert no_screen() is None


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_without_keys_or_a_place_to_draw_there_is_none(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    monkeypatch.setattr(screen_module.sys, stream, Tty(False))
    assert "are not both a terminal" in str(no_screen())


@pytest.mark.usefixtures("terminal")
def test_on_a_dumb_terminal_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "TERM" in str(no_screen())
    monkeypatch.delenv("TERM")
    assert "TERM" in str(no_screen())


@pytest.mark.usefixtures("terminal")
def test_where_textual_is_not_installed_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "textual" else name)
    assert "textual is not installed" in str(no_screen())


def test_the_table_without_keys_says_why_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(trace_module, "live_session", lambda *_, **__: Session(MadeUpSource()))
    monkeypatch.setattr(trace_module, "no_screen", lambda: "there are no keys")
    monkeypatch.setattr(trace_module, "_watch_live", lambda *_: shown.append("live"))
    monkeypatch.setattr(trace_module, "_watch_plainly", lambda *_: shown.append("plain"))
    monkeypatch.setattr(console_module._Console, "is_terminal", True)
    done = CliRunner().invoke(trace_module.trace, [])
    assert (done.exit_code, shown) == (0, ["live"]), done.output
    assert "kleaktrace: a table without keys: there are no keys\n" in done.stderr
    done = CliRunner().invoke(trace_module.trace, ["--plain"])
    assert (done.exit_code, shown) == (0, ["live", "plain"]), done.output
    assert "table without keys" not in done.stderr


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("term", "encoding", "bars"),
    [
        ("xterm-256color", "utf-8", BLOCKS),
        ("linux", "utf-8", ASCII),
        ("vt220", "utf-8", ASCII),
        ("screen", "ascii", ASCII),
    ],
)
def test_consoles_get_plain_characters(monkeypatch: pytest.MonkeyPatch, term: str, encoding: str, bars: str) -> None:
    shown: list[view.Options] = []
    monkeypatch.setattr(view, "show_screen", lambda feed, options: shown.append(options))
    monkeypatch.setattr(screen_module.sys.stderr, "encoding", encoding)
    monkeypatch.setenv("TERM", term)
    show_trace_screen(None, GroupBy.PID, 5.0, True, lambda: False)  # type: ignore[arg-type]
    (options,) = shown
    assert (options.by, options.older_s, options.unreclaimable, options.bars) == (GroupBy.PID, 5.0, True, bars)
