# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of commands say what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from docs_lib import command_pages

DOCS = command_pages.PROJECT / "docs"
TO_DO = "tools/docs --update"


@pytest.mark.parametrize(("path", "text"), command_pages.pages().items(), ids=lambda value: getattr(value, "stem", ""))
def test_page_is_what_would_be_made_now(path: Path, text: str) -> None:
    assert path.read_text() == text, TO_DO


def test_every_command_has_a_page_and_a_man_page() -> None:
    names = {
        f"kleaktrace-{name}" for name in command_pages.kleaktrace.list_commands(click.Context(command_pages.kleaktrace))
    }
    pages = {path.stem for path in (DOCS / "commands").glob("*.md")}
    assert pages == {"kleaktrace", *names} == {path.stem for path in (DOCS / "man").glob("*.1")}


def test_what_is_written_by_hand_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command_pages, "PAGES", tmp_path)
    path = tmp_path / "kleaktrace-mark.md"
    path.write_text(command_pages.pages()[path].replace("# kleaktrace mark", "# old") + "\n## Examples\n\nBy hand.\n")
    made = command_pages.pages()[path]
    assert made.startswith("# kleaktrace mark\n")
    assert made.endswith("\n## Examples\n\nBy hand.\n")


def test_markdown_is_escaped_but_for_code() -> None:
    assert command_pages._escaped("[x>=1] a_b `c_d` *") == r"\[x\>=1\] a\_b `c_d` \*"
