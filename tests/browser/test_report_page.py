# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reader does with the page: look, search, zoom, invert, filter, sort, by mouse and by keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recordings import HOSTILE
from webdriver import Browser

from kleaktrace.terminal import clean

pytestmark = pytest.mark.browser

Show = Callable[[str], None]


def boxes(browser: Browser, selector: str = ".box") -> list[str]:
    """The names in the flame graph, callers first."""
    script = "return [...document.querySelectorAll('#flame ' + arguments[0])].map((box) => box.node.name)"
    found: list[str] = browser.javascript(script, selector)
    return found


def cells(browser: Browser, column: str) -> list[str]:
    """What the rows in sight have in a column."""
    script = """
        const heads = [...document.querySelectorAll('.head > div')].map((cell) => cell.textContent);
        const place = heads.indexOf(arguments[0]);
        const rows = [...document.querySelectorAll('.spacer .row')].sort((a, b) => a.place - b.place);
        return rows.map((row) => row.children[place].textContent);
    """
    found: list[str] = browser.javascript(script, column)
    return found


def press(browser: Browser, selector: str, *keys: str) -> None:
    browser.javascript("document.querySelector(arguments[0]).focus()", selector)
    browser.keys(*keys)


def choose(browser: Browser, selector: str, value: str) -> None:
    script = """
        const list = document.querySelector(arguments[0]);
        list.value = arguments[1];
        list.dispatchEvent(new Event("change"));
    """
    browser.javascript(script, selector, value)


def panel(browser: Browser) -> str | None:
    """The title of the panel; None: it is closed."""
    hidden: Any = browser.javascript("return document.getElementById('panel').hidden")
    return None if hidden else browser.text("#panel-title")


def test_one_leak_is_told_first(browser: Browser, shown: Show, build: Path) -> None:
    shown("one leak")
    assert browser.text("h1") == "1 leaked object, 128 B, from 1 call stack"
    assert "not freed, and nothing has pointed to it in 2 scans" in browser.text("article.confirmed")
    assert browser.text("#status") == "2 call stacks, 4.1 KiB"
    assert boxes(browser) == ["all", "do_one_initcall", "drv_probe [drv]", "kthread", "core_alloc"]
    assert cells(browser, "asked for by") == ["core_alloc ← kthread", "drv_probe ← do_one_initcall"]
    browser.screenshot(build / "one-leak.png", whole_page=True)
    browser.colours("dark")
    browser.screenshot(build / "one-leak-dark.png", whole_page=True)


def test_the_page_s_own_words_are_found_by_the_browser(browser: Browser, shown: Show) -> None:
    shown("one leak")
    for words in ("drv_free+0x22/0xe00", "core_alloc", "kthreadd"):
        assert browser.javascript("return window.find(arguments[0])", words), words


def test_nothing_at_all(browser: Browser, shown: Show, build: Path) -> None:
    shown("nothing")
    assert browser.text("h1").startswith("Clean: ")
    assert browser.text("#status") == "Nothing was allocated while it was traced."
    assert boxes(browser) == ["all"]
    browser.screenshot(build / "nothing.png", whole_page=True)


def test_searching(browser: Browser, shown: Show) -> None:
    shown("one leak")
    browser.type("#search", "DRV_")
    assert cells(browser, "asked for by") == ["drv_probe ← do_one_initcall"]
    assert boxes(browser, ".found") == ["drv_probe [drv]"]
    assert browser.text("#status") == "1 of 2 call stacks, 128 B (3 %)"
    browser.type("#search", "nowhere")
    assert browser.text("#status") == "0 of 2 call stacks, 0 B (0 %)"


def test_seeing_only_what_was_found(browser: Browser, shown: Show) -> None:
    shown("one leak")
    browser.type("#search", "drv")
    browser.keys("Enter")
    assert boxes(browser) == ["all", "do_one_initcall", "drv_probe [drv]"]
    browser.keys("\ue003")  # backspace
    assert len(boxes(browser)) == 5


@pytest.mark.parametrize("words", ["kthreadd", "kmalloc-4k"])
def test_searching_for_a_task_or_a_cache(browser: Browser, shown: Show, words: str) -> None:
    shown("one leak")
    browser.type("#search", words)
    assert cells(browser, "asked for by") == ["core_alloc ← kthread"]


def test_zooming_in_and_out(browser: Browser, shown: Show) -> None:
    shown("one leak")
    browser.javascript("[...document.querySelectorAll('.box')].find((b) => b.node.name === 'do_one_initcall').click()")
    assert boxes(browser) == ["all", "do_one_initcall", "drv_probe [drv]"]
    assert cells(browser, "asked for by") == ["drv_probe ← do_one_initcall"]
    browser.click("#zoom-out")
    assert len(boxes(browser)) == 5
    assert len(cells(browser, "asked for by")) == 2


def test_inverting(browser: Browser, shown: Show) -> None:
    shown("one leak")
    browser.click("#invert")
    assert boxes(browser) == ["all", "drv_probe [drv]", "do_one_initcall", "core_alloc", "kthread"]


@pytest.mark.parametrize(
    ("measure", "words"), [("objects", "2 objects"), ("allocation rate", "0.1 allocations/s"), ("bytes", "4.1 KiB")]
)
def test_measures(browser: Browser, shown: Show, measure: str, words: str) -> None:
    shown("one leak")
    browser.click(f"input[value='{measure}']")
    assert browser.text("#status") == f"2 call stacks, {words}"


def test_filtering_by_module_and_verdict(browser: Browser, shown: Show) -> None:
    shown("one leak")
    choose(browser, "#module", "drv")
    assert cells(browser, "module") == ["drv"]
    assert boxes(browser) == ["all", "do_one_initcall", "drv_probe [drv]"]
    choose(browser, "#module", "")
    browser.click("input[value='confirmed']")
    assert cells(browser, "asked for by") == ["core_alloc ← kthread"]


def test_colours_say_how_much_is_leaked(browser: Browser, shown: Show) -> None:
    shown("one leak")
    fill = "return document.querySelector('.box').style.background"
    assert "var(--confirmed-fill) 0.00% 3.03%,var(--alive-fill) 3.03% 100.00%" in browser.javascript(fill)


def test_sorting_by_each_column_both_ways(browser: Browser, shown: Show) -> None:
    shown("one leak")
    heads = browser.count(".head > div")
    for place in range(1, heads + 1):
        button = f".head > div:nth-child({place}) button"
        seen = []
        for _ in range(2):
            browser.click(button)
            sort = f"return document.querySelectorAll('.head > div')[{place - 1}].getAttribute('aria-sort')"
            seen.append((browser.javascript(sort), cells(browser, browser.text(button).rstrip(" ↑↓"))))
        assert {how for how, _ in seen} == {"ascending", "descending"}
        assert seen[0][1] == seen[1][1][::-1]


def test_all_of_a_stack_on_click(browser: Browser, shown: Show, build: Path) -> None:
    shown("one leak")
    browser.click("article button.show")
    assert panel(browser) == "drv_probe [drv]"
    words = browser.text("#panel")
    assert "17 % outlive" in words
    assert "5\ndrv_free+0x22/0xe00 [drv]" in words.replace(" drv_free", "\ndrv_free")
    assert "drv_probe+0x22/0x100 [drv]\ndo_one_initcall+0x22/0x1000" in words
    assert browser.count("#panel svg .survival") == 1
    assert browser.count("#panel svg .layer") == 1
    browser.screenshot(build / "panel.png")
    browser.click("#panel .close")
    assert panel(browser) is None


def test_everything_by_keys(browser: Browser, shown: Show) -> None:
    shown("one leak")
    press(browser, "#flame", "Down", "Down")
    assert boxes(browser, ".current") == ["core_alloc"]
    browser.keys("Up", "Left")
    assert boxes(browser, ".current") == ["do_one_initcall"]
    browser.keys("Enter")
    assert boxes(browser) == ["all", "do_one_initcall", "drv_probe [drv]"]
    browser.keys("Escape")
    assert len(boxes(browser)) == 5
    press(browser, ".rows", "Down", "Enter")
    assert panel(browser) == "drv_probe [drv]"
    browser.keys("Escape")
    assert panel(browser) is None
    assert browser.javascript("return document.activeElement.className") == "rows"
    browser.keys("i")
    assert boxes(browser)[1] == "drv_probe [drv]"
    browser.keys("/")
    browser.keys(*"kthreadd")
    assert cells(browser, "asked for by") == ["core_alloc ← kthread"]


def test_the_tab_key_reaches_all_there_is(browser: Browser, shown: Show) -> None:
    shown("one leak")
    reached = set()
    for _ in range(60):
        browser.keys("Tab")
        reached.add(browser.javascript("const e = document.activeElement; return e.id || e.className || e.tagName"))
    assert {"show", "search", "module", "invert", "flame", "rows"} <= reached


def test_names_that_mean_harm(browser: Browser, shown: Show, build: Path) -> None:
    shown("hostile")
    assert browser.javascript("return document.title") == "kleaktrace: leaks, Linux 6.12.0-made-up"
    assert browser.count("img") == 0
    assert browser.count("script") == 2
    for name in HOSTILE:
        assert f"{clean(name)}+0x2/0x100" in browser.javascript("return document.body.textContent")
    for place in range(len(HOSTILE)):
        press(browser, ".rows", "Home", *["Down"] * place, "Enter")
        assert panel(browser)
        browser.click("#panel .close")
    modules = browser.javascript("return [...document.querySelectorAll('#module option')].map((each) => each.value)")
    assert len(modules) == 1 + len(HOSTILE)
    for module in modules[1:]:
        choose(browser, "#module", module)
        assert cells(browser, "module") == [module]
    browser.screenshot(build / "hostile.png", whole_page=True)


@pytest.mark.parametrize(("width", "height"), [(640, 900), (3840, 2160)])
@pytest.mark.parametrize("case", ["nothing", "one leak", "hostile", "many"])
def test_narrow_and_wide(browser: Browser, shown: Show, build: Path, case: str, width: int, height: int) -> None:
    browser.size(width, height)
    shown(case)
    assert browser.javascript("return document.documentElement.scrollWidth") <= width
    if browser.count(".spacer .row"):
        press(browser, ".rows", "Home", "Enter")
        assert browser.javascript("return document.getElementById('panel').getBoundingClientRect().left") >= 0
        browser.keys("Escape")
    browser.screenshot(build / f"{case.replace(' ', '-')}-{width}.png")


def test_a_hundred_thousand_stacks(
    browser: Browser, shown: Show, pages: Callable[[str], Path], build: Path, record_property: Callable[..., None]
) -> None:
    assert pages("many").stat().st_size <= 5_000_000
    shown("many")
    paint = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
    ready = "return performance.getEntriesByName('kleaktrace-ready')[0].startTime"
    for name, script in (("first paint", paint), ("ready", ready)):
        record_property(name, f"{browser.javascript(script):.0f} ms")  # told, not judged: others use the machine
    assert browser.text("#status").startswith("100,000 call stacks, ")
    assert 20 < browser.count(".spacer .row") < 100
    press(browser, ".rows", "End")
    assert "row99999" in browser.javascript("return document.querySelector('.spacer .row.current').id")
    browser.type("#search", "function_2345")
    assert browser.text("#status").partition(" of ")[0].replace(",", "").isdigit()
    found = cells(browser, "asked for by")
    assert 0 < len(found) < 100
    browser.click("#invert")
    press(browser, "#search", "Enter")
    assert boxes(browser, ".found")[0] == "function_2345"
    browser.screenshot(build / "many.png", whole_page=True)


@pytest.mark.parametrize("case", ["nothing", "one leak", "many"])
def test_printing(browser: Browser, shown: Show, build: Path, case: str) -> None:
    shown(case)
    printed = browser.printed()
    assert printed.startswith(b"%PDF-")
    (build / f"{case.replace(' ', '-')}.pdf").write_bytes(printed)
