# SPDX-License-Identifier: GPL-2.0-or-later
"""What the manual shows is what is printed; where root is needed, tests/guest/test_first_leak.py looks."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs_lib import shown_output
from docs_lib.shown_output import Shown, difference, without_source_lines

SHOWN = [one for page in shown_output.pages() for one in shown_output.shown(page)]


@pytest.mark.parametrize("one", [one for one in SHOWN if not one.needs_root], ids=str)
@pytest.mark.thorough
def test_commands_print_what_the_manual_shows(one: Shown) -> None:
    assert difference(one.output, shown_output.printed(one.command)) == ""


def test_something_is_shown() -> None:
    assert len(SHOWN) > 5


@pytest.mark.parametrize(
    ("said", "real", "differs"),
    [
        ("a b", "a b", ""),
        ("a b", "a", "is not there: b"),
        ("a", "a b", "is there, but not shown: b"),
        ("a … c", "a b b c", ""),
        ("a … c", "a c", ""),
        ("a … c", "a b c d", "is not there: c"),
        ("… b …", "a b c", ""),
        ("… b c …", "b a b c", ""),
        ("… c b …", "a b c", "is not there: c / b"),
        ("a … a", "a", "is not there: a"),
        ("…", "a b", ""),
        ("", "", ""),
    ],
)
def test_what_is_left_out(said: str, real: str, differs: str) -> None:
    assert difference(said.split(), real.split()) == differs


def test_blocks_are_found_and_renewed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n- In a list:\n\n  ```console\n  $ echo one; echo two\n  one\n  three\n  $ true\n  ```\n")
    first, second = shown_output.shown(page)
    assert (first.line, first.command, first.output) == (6, "echo one; echo two", ("one", "three"))
    assert (second.command, second.output) == ("true", ())
    page.write_text(shown_output.renewed(page))
    assert "  $ echo one; echo two\n  one\n  two\n  $ true\n  ```\n" in page.read_text()


def test_what_needs_root_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ sudo false\nas it was\n```\n")
    assert shown_output.renewed(page) == page.read_text()


def test_source_lines_depend_on_the_machine() -> None:
    printed = [
        "  kzalloc  slab.h:12 (inlined)",
        "  kmalloc  slab.h:1 [inline]",
        "  f+0x1/0x2 [m]  drivers/a b.c:3",
        "  g+0x1/0x2",
        "no source lines for m: x",
    ]
    assert without_source_lines(printed) == ["  f+0x1/0x2 [m]", "  g+0x1/0x2"]
