# SPDX-License-Identifier: GPL-2.0-or-later
"""The interactive screen, with a reader who presses its keys and looks at its text."""

from __future__ import annotations

import pytest
from builders import KERNEL_TEXT, Scene, kallsyms
from made_up_feed import MadeUpFeed, Reader, many_rows, read
from rich.cells import cell_len

from kleaktrace.core.events.loss import Loss
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms
from kleaktrace.errors import EvidenceLost

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
def test_one_row_with_its_figures_and_its_call_stack(size: tuple[int, int]) -> None:
    feed = MadeUpFeed()
    feed.scene.allocate(1, A)

    async def reading(reader: Reader) -> None:
        text = await reader.sees("1 row ", "drv_probe [drv]: kmalloc-128", "do_one_initcall+0x22")
        assert "10.0 s: 1 allocations, 0 frees, 1 outstanding (128 B)" in text
        assert "no verdict yet: s lets kmemleak scan" in text
        assert "same call stack: 0 of 1 freed" in text
        row = next(line for line in text.splitlines() if "drv_probe [drv]: kmalloc" in line)
        assert row.split()[:2] == ["128", "1"]

    read(feed, reading, size)


@both_sizes
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
        assert [line[:30] for line in reader.text.splitlines()[4:8]] == [line[:30] for line in top]
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
        await reader.sees("LOST: 1,234 events, 1 stack; not seen on this kernel: percpu")

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
