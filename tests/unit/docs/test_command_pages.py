# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of commands say what the commands say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from docs_lib import command_pages, shown_output

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


def test_pages_of_the_manual_begin_with_their_limits() -> None:
    for name in ("index", "first-leak", "reading-verdicts", "kmemleak", "live", "who-leaks", "alternatives"):
        heading, limits, *_ = (DOCS / f"{name}.md").read_text().split("\n\n")
        assert heading.startswith("# ")
        assert limits.startswith("**Limits: ")
        assert limits.endswith("**")


def test_what_needs_root_is_shown_where_a_guest_looks() -> None:
    pages = {one.page.name for page in shown_output.pages() for one in shown_output.shown(page) if one.needs_root}
    assert pages == {"first-leak.md"}


def test_the_first_leak_shows_the_driver_as_it_is() -> None:
    page, driver = (DOCS / "first-leak.md").read_text(), DOCS / "first-leak"
    files = [driver / name for name in ("notepad.c", "test.sh", "mend.patch", "mend-error-path.patch")]
    shown = re.findall(r"```(?:c|sh|diff)\n(.*?)```", page, re.DOTALL)
    assert len(shown) == len(files)
    for block, source in zip(shown, files, strict=True):
        assert block in source.read_text()
