# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual builds without a warning, and what is kept of what it is made from is what would be made now."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs
PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / "build" / "docs"
KEPT = PROJECT / "docs" / "man"
TO_DO = "tools/docs --update"


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build it, once."""
    done = subprocess.run(
        [PROJECT / "tools" / "docs"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def words(page: Path) -> list[str]:
    """What a man page says. How it is put into macros is a matter of Sphinx's version."""
    lines = page.read_text().splitlines()
    text = " ".join(re.sub(r"^\.(?:TH|SH|SS) ", "", line) for line in lines if not re.match(r"\.(?!TH|SH|SS)|'", line))
    return re.sub(r"\\f.|\\\(..|\\[&%]|\\|\"", "", text).split()


def test_kept_man_pages_are_those_that_are_made() -> None:
    made = {page.name: words(page) for page in (BUILD / "man").glob("*.1")}
    assert {page.name: words(page) for page in KEPT.glob("*.1")} == made, TO_DO
    assert "kleaktrace-run.1" in made


def test_options_stay_as_they_are_typed() -> None:
    assert "With --repeat, CMD is run" in (BUILD / "html" / "commands" / "kleaktrace-run.html").read_text()
    assert "With --repeat, CMD is run" in " ".join(words(BUILD / "man" / "kleaktrace-run.1"))


def test_nothing_is_fetched_from_elsewhere() -> None:
    for page in (BUILD / "html").rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"(\w+:[^\"]*)|<link[^>]* href=\"(\w+:[^\"]*)", page.read_text()
        )
        assert fetched == [], page.name
