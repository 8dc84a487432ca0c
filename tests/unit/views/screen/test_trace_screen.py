# SPDX-License-Identifier: GPL-2.0-or-later
"""The interactive screen, with a reader who presses its keys and looks at its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders import KERNEL_TEXT, Scene, kallsyms, suspect
from made_up_feed import MadeUpFeed, Reader, many_rows, read
from reports import growing_stack
from rich.cells import cell_len
from textual.binding import Binding

from kleaktrace.core.events.loss import Loss
from kleaktrace.core.live_table.stack_verdicts import StackVerdicts
from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost
from kleaktrace.views.screen.bars import ASCII
from kleaktrace.views.screen.dialogs import help_text
from kleaktrace.views.screen.trace_screen import TraceScreen

A = 0xFFFF888100000000
EVIL = b"\x1b[2J[red]\xe2\x80\xae\x07"

both_sizes = pytest.mark.parametrize("size", [(80, 24), (120, 40)])


@pytest.fixture
def feed() -> MadeUpFeed:
    """Three small ones of the driver, of six, and a large one of core code."""
    feed = MadeUpFeed()
    for number in range(6):
        feed.scene.allocate(1 + number, A + number * 0x1000)
    for number in range(3):
        feed.scene.free(7, A + number * 0x1000)
    feed.scene.allocate(2, A + 0x10000, stack=3, bytes_alloc=8192, comm=b"kthreadd")
    return feed


@both_sizes
def test_nothing_outstanding_is_said(size: tuple[int, int]) -> None:
    async def reading(reader: Reader) -> None:
        text = await reader.sees("(nothing outstanding)", "lost: nothing; all kinds", "0 rows", "? Help", "q Quit")
        assert len(text.splitlines()) == size[1]

    read(MadeUpFeed(), reading, size)


@both_sizes
def test_the_whole_screen_is_as_it_was_when_somebody_looked_at_it(feed: MadeUpFeed, size: tuple[int, int]) -> None:
    """If it is meant to look another way: look at it, and keep what the assertion shows."""
    kept = Path(__file__).with_name("snapshots") / f"{size[0]}x{size[1]}.txt"

    async def reading(reader: Reader) -> None:
        text = await reader.sees("who asked (call stack)", "B/s lately", "2 rows", "Quit")
        assert text.replace("▁", " ") == kept.read_text().rstrip("\n"), (
            "but for the trend, which has more with each look"
        )

    read(feed, reading, size)


@both_sizes
def test_one_row_with_its_figures_and_its_call_stack(size: tuple[int, int]) -> None:
    feed = MadeUpFeed()
    feed.scene.allocate(1, A)

    async def reading(reader: Reader) -> None:
        text = await reader.sees("1 row ", "drv_probe [drv]: kmalloc-128", "do_one_initcall+0x22")
        assert "10.0 s: 1 allocation, 0 frees, 1 outstanding (128 B)" in text
        assert "no verdict yet: s lets kmemleak scan" in text
        assert "same call stack: 0 of 1 freed" in text
        row = next(line for line in text.splitlines() if "drv_probe [drv]: kmalloc" in line)
        assert row.split()[:2] == ["128", "1"]

    read(feed, reading, size)


def _kept(line: str) -> list[str]:
    words = line.split()
    return [*words[:2], *(word for word in words if word.startswith("function_"))]


@both_sizes
@pytest.mark.thorough
def test_a_hundred_thousand_rows(size: tuple[int, int]) -> None:
    feed = MadeUpFeed(many_rows(100_000))

    async def reading(reader: Reader) -> None:
        top = (await reader.sees("100,000 rows", "function_")).splitlines()[4:8]
        await reader.press("end")
        await reader.pilot.pause()
        last = reader.text.splitlines()[4:8]
        assert last != top
        await reader.press("up", "pageup", "home", "down", "pagedown", "up", "pageup")
        await reader.pilot.pause()
        # There may have been another look meanwhile, since which more is known: bytes, count and name stay.
        assert [_kept(line) for line in reader.text.splitlines()[4:8]] == [_kept(line) for line in top]
        assert len(reader.screen._table._strips) < 100, "only what is on the screen is made"
        await reader.press("slash", *"function_399")
        await reader.sees("'function_399'", without="100,000 rows")

    read(feed, reading, size)


@both_sizes
def test_names_of_any_length_and_from_anybody_do_no_harm(size: tuple[int, int]) -> None:
    scene = Scene()
    long = "_ZN" + "9namespace" * 400 + "Ev"
    functions = {**KERNEL_TEXT, long: 0xFFFFFFFF90000000, "end": 0xFFFFFFFF91000000}
    scene.names = KernelNames(parse_kallsyms(kallsyms(functions)))
    scene.names.stacks.add(1, [0xFFFFFFFF90000002])
    scene.allocate(1, A, comm=EVIL)
    scene.allocate(1, A + 0x1000, stack=0, comm=EVIL)
    feed = MadeUpFeed(scene)

    async def reading(reader: Reader) -> None:
        text = await reader.sees("_ZN9namespace", "2 rows", "…", "no stack")
        await reader.press("4")
        text = await reader.sees("\\x1b[2J[red]\\u202e\\x07")
        assert all(line.isprintable() for line in text.splitlines())
        assert all(cell_len(line) <= size[0] for line in text.splitlines())

    read(feed, reading, size)


def test_loss_and_what_is_not_seen_are_always_told(feed: MadeUpFeed) -> None:
    feed.loss = Loss(events=1234, stacks=1)
    feed.unseen = ["percpu"]

    async def reading(reader: Reader) -> None:
        await reader.sees("LOST: 1,234 events, 1 stack; not seen here: percpu")

    read(feed, reading)


def test_who_keeps_growing_is_told_above_the_table_and_in_the_pane(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows", without="growing")
        feed.growing = [growing_stack(), growing_stack(kept="inodes", frames=())]
        await reader.sees("growing: drv_probe [drv] +1.2 KiB/s\n")
        await reader.press("down")
        await reader.sees("growing +1.2 KiB/s (95 %: 1.1 KiB to 1.3 KiB)")

    read(feed, reading)


def test_it_ends_when_it_is_told_to_from_outside(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        for _ in range(200):
            await reader.pilot.pause(0.05)
            if not reader.screen.is_running:
                return
        raise AssertionError("it goes on")

    read(feed, reading, ended=lambda: feed.looks > 0)


def test_what_a_look_raises_ends_it(feed: MadeUpFeed) -> None:
    feed.fails = EvidenceLost("draining failed", "fix")

    async def reading(reader: Reader) -> None:
        for _ in range(200):
            await reader.pilot.pause(0.05)
            if not reader.screen.is_running:
                return
        raise AssertionError("it goes on")

    assert read(feed, reading).failure is feed.fails


def test_rows_are_sorted_by_key_and_by_a_click_on_a_heading(feed: MadeUpFeed) -> None:
    async def first(reader: Reader, *words: str) -> None:
        for _ in range(200):
            await reader.pilot.pause(0.05)
            if all(word in reader.text.splitlines()[4] for word in words):
                return
        raise AssertionError(f"{words} not first in\n{reader.text}")

    async def reading(reader: Reader) -> None:
        await first(reader, "core_alloc")
        await reader.press("r")
        await first(reader, "drv_probe")
        await reader.press("o")
        await first(reader, "drv_probe", "3")
        await reader.press("r")
        await first(reader, "core_alloc")
        await reader.pilot.click("TableHeading", offset=(3, 0))
        await first(reader, "core_alloc")
        await reader.pilot.click("TableHeading", offset=(3, 0))
        await first(reader, "drv_probe")
        await reader.press("o", "o", "o", "o", "o")
        await first(reader, "core_alloc")

    read(feed, reading)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("1", ["who asked (call stack)"]),
        ("2", ["requester", "drv_probe [drv]: kmalloc-128"]),
        ("3", ["cache", "kmalloc-8k"]),
        ("4", ["comm", " kthreadd\n", " insmod\n"]),
        ("5", ["pid", "42 (insmod)"]),
        ("6", ["cgroup", "/slice/0"]),
        ("7", ["module", " drv\n", "(kernel)"]),
        ("8", ["context", " task\n"]),
    ],
)
def test_rows_are_grouped_by_key(feed: MadeUpFeed, key: str, words: list[str]) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press(key)
        await reader.sees(*words)

    read(feed, reading)


def test_g_goes_through_all_groupings(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        for words in (["requester"], ["kmalloc-8k"], ["comm"], ["(insmod)"], ["/slice/0"], ["(kernel)"], ["1 row "]):
            await reader.press("g")
            await reader.sees(*words)
        await reader.press("g")
        await reader.sees("who asked (call stack)")

    read(feed, reading)


def test_the_filter_box(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("slash", *"q[DRV]")
        await reader.sees("(no row contains 'q[DRV]': Esc shows all)", "Enter keep it", "Esc show all rows")
        await reader.press("home", "delete")
        await reader.sees("1 row, with '[DRV]'", without="core_alloc: ")
        await reader.press("enter", "p")
        await reader.sees("PAUSED, 1 row, with '[DRV]'")
        await reader.press("escape", "p")
        await reader.sees("2 rows  ", "core_alloc: ")

    read(feed, reading)


def test_standing_still(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("p")
        await reader.sees("PAUSED")
        feed.scene.allocate(9, A + 0x20000, stack=2)
        await reader.press("o")
        await reader.pilot.pause(1.5)
        await reader.sees("PAUSED, 2 rows")
        await reader.press("p")
        await reader.sees("3 rows", without="PAUSED")

    read(feed, reading)


def test_the_slider_hides_what_is_younger(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows", "older than [O------------] any age")
        await reader.press("right_square_bracket", "right_square_bracket")
        await reader.sees("older than [--O----------] 2.0s")
        await reader.press(*["right_square_bracket"] * 20)
        await reader.sees("[------------O] 1h00m", "(nothing is so old yet: [ shows younger ones)")
        await reader.pilot.click("AgeSlider", offset=(len("older than [") + 3, 0))
        await reader.sees("[---O---------] 5.0s", "2 rows", " 256 ")
        await reader.pilot.mouse_down("AgeSlider", offset=(14, 0))
        await reader.pilot.hover("AgeSlider", offset=(0, 0))
        await reader.pilot.mouse_up("AgeSlider", offset=(0, 0))
        await reader.sees("[O------------] any age", "2 rows")

    read(feed, reading)


def test_an_age_that_was_asked_for_has_its_place_on_the_slider(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("older than [----O---------] 7.0s", "1 row ")

    read(feed, reading, older_s=7.0)


def test_what_came_since_the_mark(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("m")
        await reader.sees("(nothing since the mark is outstanding", "0 rows, since the mark 0.0s ago", "marked: do it")
        feed.scene.allocate(11, A + 0x20000, stack=2)
        feed.now_s = 12.0
        await reader.sees("1 row, since the mark 2.0s ago")
        await reader.press("M")
        await reader.sees("3 rows", without="mark")

    read(feed, reading)


def test_what_can_be_reclaimed_is_hidden(feed: MadeUpFeed) -> None:
    feed.scene.allocate(3, A + 0x30000, stack=2, gfp_flags=0x10)

    async def reading(reader: Reader) -> None:
        await reader.sees("3 rows", "core_alloc (reclaimable): kmalloc-128")
        await reader.press("u")
        await reader.sees("2 rows, none reclaimable", without="(reclaimable)")
        await reader.press("u")
        await reader.sees("3 rows", "(reclaimable)")

    read(feed, reading)


def test_the_pane_tells_of_the_chosen_row(feed: MadeUpFeed) -> None:
    feed.known_sources = SourceLines({"drv_probe+0x22/0x100 [drv]": (SourceLine("drv_probe", "drv.c", 7),)})

    async def reading(reader: Reader) -> None:
        await reader.sees("core_alloc: kmalloc-8k", "core_alloc+0x22")
        await reader.press("down")
        await reader.sees(
            *("3 outstanding (384 B), the oldest 6.0 s old", "same call stack: 3 of 6 freed", "freed after"),
            "drv_probe+0x22/0x100 [drv]  drv.c:7",
        )
        await reader.pilot.click("OutstandingTable", offset=(50, 0))
        await reader.sees("core_alloc+0x22", without="drv.c:7")
        await reader.press("enter")
        await reader.sees("kthread+0x22")
        await reader.press("enter")
        await reader.sees("2 rows", without="same call stack")
        await reader.press("enter")
        await reader.sees("same call stack")
        await reader.press("tab")
        assert reader.screen.focused is not None
        assert reader.screen.focused.id == "details"

    read(feed, reading, (80, 30))


def test_the_chosen_row_stays_chosen_where_it_moves(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("down")
        await reader.sees("drv_probe+0x22/0x100 [drv]")
        feed.scene.allocate(9, A + 0x20000, bytes_alloc=128)
        for number in range(100):
            feed.scene.allocate(9, A + 0x200000 + number * 0x1000, bytes_alloc=128)
        await reader.sees("104 outstanding", "drv_probe+0x22/0x100 [drv]")
        assert reader.screen._table._place == 0

    read(feed, reading)


def test_a_scan_shows_its_progress_and_verdicts_with_reasons(feed: MadeUpFeed) -> None:
    listed = [[suspect(4, A + 0x3000), suspect(5, A + 0x4000)]] * 2

    def scan(progress: Callable[[str], None]) -> str:
        progress("kmemleak: 0 of 2 scans done, scanning")
        assert feed.may_go_on.wait(30)
        feed.verdicts = StackVerdicts.of(feed.scene.judge(*listed), feed.scene.names, [1, 3])
        return "scanned: 2 confirmed"

    feed.scan_answer = scan

    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("s")
        await reader.sees("kmemleak: 0 of 2 scans done, scanning")
        await reader.press("s")
        await reader.sees("wait: scanning is not done yet")
        feed.may_go_on.set()
        await reader.sees("scanned: 2 confirmed", "verdict   who asked", "confirmed drv_probe", "-         core_alloc")
        await reader.sees("kmemleak lists none of these")
        await reader.press("down")
        await reader.sees("confirmed (2): not freed, and nothing has pointed to it in 2 scans")

    read(feed, reading)


def test_why_there_is_no_scan_is_said(feed: MadeUpFeed) -> None:
    def scan(progress: Callable[[str], None]) -> str:
        raise EnvironmentRefusal("no scan: kmemleak is off", "boot with kmemleak=on")

    feed.scan_answer = scan

    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("s")
        await reader.sees("no scan: kmemleak is off: boot with kmemleak=on")

    read(feed, reading)


def test_a_capture_is_written_under_a_name(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("w")
        await reader.sees("Name of the capture to be made:", "trace-20")
        await reader.press("escape")
        await reader.sees("2 rows", without="Name of the capture")
        await reader.press("w")
        await reader.sees("trace-20")
        await reader.press(*"-q", "enter")
        await reader.sees("kept in trace-20")

    read(feed, reading)
    assert len(feed.saved) == 1
    assert feed.saved[0].endswith("-q")


@both_sizes
def test_help_has_all_keys(feed: MadeUpFeed, size: tuple[int, int]) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press("question_mark")
        await reader.sees("kleaktrace trace: keys", "Esc closes this", "Outstanding memory")
        await reader.press("end")
        await reader.sees("q, Ctrl-C", "the wheel scrolls")
        await reader.press("q")
        await reader.sees("2 rows", without="Esc closes this")

    read(feed, reading, size)


def test_every_key_is_in_the_help() -> None:
    told = help_text().plain
    for binding in TraceScreen.BINDINGS:
        assert isinstance(binding, Binding)
        for key in binding.key.split(","):
            name = {"question_mark": "?", "slash": "/", "left_square_bracket": "[", "right_square_bracket": "]"}
            words = {"ctrl+c": "Ctrl-C", "escape": "Esc", "enter": "Enter", "shift+m": "M"}
            word = {**name, **words}.get(key, key)
            assert word.isdigit() or word in told, key


@pytest.mark.parametrize(
    "keys", [["q"], ["ctrl+c"], ["slash", "a", "ctrl+c"], ["w", "ctrl+c"], ["question_mark", "ctrl+c"]]
)
def test_the_end(feed: MadeUpFeed, keys: list[str]) -> None:
    async def reading(reader: Reader) -> None:
        await reader.sees("2 rows")
        await reader.press(*keys)
        assert not reader.screen.is_running or reader.screen._exit

    assert read(feed, reading).failure is None


def test_small_bars_of_plain_characters(feed: MadeUpFeed) -> None:
    async def reading(reader: Reader) -> None:
        text = await reader.sees("3 rows", "freed after")
        assert not set("▁▂▃▄▅▆▇█─━") & set(text)
        await reader.press("w")
        assert "╭" not in await reader.sees("+- write a capture ---")

    feed.scene.allocate(2, A + 0x700000, bytes_alloc=1 << 20)
    read(feed, reading, bars=ASCII)
