# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reader sees of two captures: what there is more of and less of, each in its colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recordings import HOSTILE
from test_report_page import boxes, cells, panel
from webdriver import Browser

from kleaktrace.terminal import clean

pytestmark = pytest.mark.browser

Show = Callable[[str], None]


def test_more_and_less_and_kept(browser: Browser, shown: Show, build: Path) -> None:
    shown("more and less")
    assert browser.text("h1") == "2 call stacks changed"
    assert boxes(browser) == ["all", "kthread", "drv_more", "drv_less", "__d_alloc"]
    assert sorted(cells(browser, "change")) == ["[+more]", "[-less]", "kept"]
    assert cells(browser, "asked for by")[0] == "drv_more ← kthread"
    fills = browser.javascript("return [...document.querySelectorAll('.box')].map((b) => b.style.background)")
    assert fills[2:] == ["var(--more-fill)", "var(--less-fill)", "var(--kept-fill)"]
    assert browser.count("#timeline") == 0
    browser.screenshot(build / "more-and-less.png", whole_page=True)
    browser.colours("dark")
    browser.screenshot(build / "more-and-less-dark.png", whole_page=True)


def test_only_what_there_is_less_of(browser: Browser, shown: Show) -> None:
    shown("more and less")
    browser.click("input[value='more']")
    browser.click("input[value='kept']")
    assert cells(browser, "asked for by") == ["drv_less ← kthread"]
    assert cells(browser, "bytes")[0].startswith("-")
    browser.click("input[value='objects']")
    assert browser.text("#status").startswith("1 of 3 call stacks, 1,")


def test_all_of_a_change_on_click(browser: Browser, shown: Show, build: Path) -> None:
    shown("more and less")
    browser.javascript("document.querySelector('.spacer .row').click()")
    assert panel(browser) == "drv_more"
    words = browser.text("#panel")
    for wanted in ("new", "95 %", "never seen", "allocations", "drv_more+0x22/0x100", "kthread+0x22"):
        assert wanted in words
    browser.screenshot(build / "change.png")


def test_nothing_has_changed(browser: Browser, shown: Show) -> None:
    shown("the same")
    assert browser.text("h1") == "nothing changed"
    assert browser.text("#status") == "Nothing has changed by more than chance explains."
    assert boxes(browser) == ["all"]


def test_names_that_mean_harm_in_two_captures(browser: Browser, shown: Show, build: Path) -> None:
    shown("hostile compared")
    assert browser.javascript("return document.title").startswith("kleaktrace diff: ")
    assert cells(browser, "change") == ["new leak"] * len(HOSTILE)
    named = "\n".join(cells(browser, "asked for by"))
    assert all(clean(name) in named for name in HOSTILE)
    browser.screenshot(build / "hostile-compared.png", whole_page=True)


@pytest.mark.parametrize(("width", "height"), [(640, 800), (3840, 2160)])
def test_it_fits_a_narrow_window_and_a_wide_one(
    browser: Browser, shown: Show, build: Path, width: int, height: int
) -> None:
    browser.size(width, height)
    shown("more and less")
    assert not browser.javascript("return document.documentElement.scrollWidth > window.innerWidth")
    browser.screenshot(build / f"more-and-less-{width}.png", whole_page=True)
