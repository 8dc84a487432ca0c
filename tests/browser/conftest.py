# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests in a real browser: Debian's Chromium without a window, driven by its chromedriver."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from recordings import CASES, many_stacks, one_leak
from streams import leak, streamed
from webdriver import Browser

from kleaktrace.core.comparison.compare import compare
from kleaktrace.core.comparison.thresholds import FailOn, conclude
from kleaktrace.core.recording import Recording
from kleaktrace.views.html.comparison_page import comparison_page
from kleaktrace.views.html.page import page

BUILD = Path(__file__).resolve().parents[2] / "build" / "browser"


COMPARISONS: dict[str, Callable[[], tuple[Recording, Recording]]] = {
    "the same": lambda: (one_leak()[0], one_leak()[0]),
    "hostile compared": lambda: (CASES["nothing"]()[0], CASES["hostile"]()[0]),
    "more and less": lambda: (
        streamed({"drv_less": leak(20, 1024), "same": leak(5)}, 1),
        streamed({"drv_more": leak(10, 4096), "same": leak(5), "__d_alloc": leak(10)}, 2),
    ),
}


def compared(before: Recording, after: Recording) -> str:
    """The page of two recordings."""
    found = compare(before, after)
    return comparison_page(found, conclude(found, FailOn()), FailOn())


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the file of a case, made once."""
    place = tmp_path_factory.mktemp("pages")
    cases = {**CASES, "many": lambda: many_stacks(100_000)}

    def made(case: str) -> Path:
        path = place / f"{case.replace(' ', '-')}.html"
        if not path.exists():
            text = compared(*COMPARISONS[case]()) if case in COMPARISONS else page(*cases[case]())
            path.write_text(text, "utf-8")
        return path

    return made


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    driver, program = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or program is None:
        pytest.skip("no chromium and chromium-driver here, and tools/setup.sh dev could not install them")
    browser = Browser(driver, program)
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The same for all tests; a test that leaves an error on the console has failed."""
    chromium.size(1400, 1000)
    chromium.colours("light")
    chromium.errors()
    yield chromium
    assert chromium.errors() == []


@pytest.fixture
def shown(browser: Browser, pages: Callable[[str], Path]) -> Callable[[str], None]:
    """Opens a case, and waits until its stacks are drawn."""

    def show(case: str) -> None:
        browser.open(pages(case))
        browser.wait_for("document.documentElement.dataset.ready")
        assert browser.javascript("return document.documentElement.dataset.ready") == "yes", browser.errors()

    return show


@pytest.fixture(scope="session")
def build() -> Path:
    """Where screenshots go, for people to look at."""
    BUILD.mkdir(parents=True, exist_ok=True)
    return BUILD
