# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that are longer than the terminal is wide, and files, which have no width."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from kleaktrace.views.terminal.console import print_line


def printed(text: str | Text, width: int | None, hanging: int = 2) -> list[str]:
    out = StringIO()
    terminal = Console(file=out, width=width or 10_000, force_terminal=width is not None, color_system=None)
    print_line(terminal, text, hanging=hanging)
    return out.getvalue().splitlines()


def test_a_long_line_goes_on_further_in_on_a_terminal() -> None:
    text = "  not covered: what kfree_rcu puts into sheaves stays outstanding"
    assert printed(text, 30) == ["  not covered: what kfree_rcu", "    puts into sheaves stays", "    outstanding"]
    assert printed(Text("ok      vfree  by the tracepoint of the areas"), 30, hanging=15) == [
        "ok      vfree  by the",
        "               tracepoint of",
        "               the areas",
    ]


def test_a_file_has_it_in_one_line() -> None:
    assert printed("  a line " + "x" * 300, None) == ["  a line " + "x" * 300]


@pytest.mark.parametrize("width", [1, 3, 20, 80])
@given(text=st.text(st.characters(codec="utf-8"), max_size=120))
def test_nothing_is_left_out_and_nothing_is_too_wide(width: int, text: str) -> None:
    lines = printed(text, width)
    shown = printed(text, None)
    assert "".join("".join(lines).split()) == "".join("".join(shown).split())
    if width >= 20 and len(lines) > 1:
        assert max((Text(line).cell_len for line in lines), default=0) <= width
