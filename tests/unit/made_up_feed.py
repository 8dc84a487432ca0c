# SPDX-License-Identifier: GPL-2.0-or-later
"""A feed for the interactive screen that the test makes up, and the screen as text."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import numpy as np
from builders import KERNEL_TEXT, SECOND, START_NS, Scene, kallsyms
from textual.pilot import Pilot

from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind, hide
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.live_table.group_details import GroupDetails, group_details
from kleaktrace.core.live_table.live_table import Asked, LiveTable, TableLook
from kleaktrace.core.live_table.stack_verdicts import NO_VERDICTS, StackVerdicts
from kleaktrace.core.source_lines.source_lines import SourceLines
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms
from kleaktrace.views.screen.feed import Seen
from kleaktrace.views.screen.trace_screen import Options, TraceScreen

PATIENCE_S = 15


class MadeUpFeed:
    """Looks at a scene. `now_s`: the time there. `fails`: what a look raises."""

    def __init__(self, scene: Scene | None = None) -> None:
        self.scene = scene or Scene()
        self.now_s = 10.0
        self.loss = Loss()
        self.unseen: list[str] = []
        self.growing: list[GrowingStack] = []
        self.fails: BaseException | None = None
        self.verdicts: StackVerdicts = NO_VERDICTS
        self.looks = 0
        self.known_sources = SourceLines()
        self.saved: list[str] = []
        self.scan_answer: Callable[[Callable[[str], None]], str] = lambda progress: "scanned"
        self.may_go_on = threading.Event()
        self._table = LiveTable(Asked(), self.scene.names)

    @property
    def now_ns(self) -> int:
        return START_NS + round(self.now_s * SECOND)

    def look(self, asked: Asked) -> Seen:
        if self.fails is not None:
            raise self.fails
        self.looks += 1
        if asked != self._table.asked:
            self._table = LiveTable(asked, self.scene.names, lambda number: f"/slice/{number}")
        old_ns = self.now_ns - round(asked.older_s * SECOND)
        counted = self.scene.ledger.tally(old_ns, asked.since_ns, asked.by.by_process)
        table = self._table.look(self.now_ns, counted)
        return Seen(table, self.now_s, self.scene.ledger.totals(), self.loss, self.unseen, self.growing)

    def details(self, look: TableLook, group: int) -> GroupDetails:
        return group_details(look, group, self.scene.ledger, self.scene.names, self.verdicts)

    def sources(self, frames: Iterable[str]) -> SourceLines:
        return self.known_sources

    def scan(self, progress: Callable[[str], None]) -> str:
        return self.scan_answer(progress)

    def save(self, name: str) -> str:
        self.saved.append(name)
        return f"kept in {name}"


def text_of(screen: TraceScreen) -> str:
    """What is on the screen, a line for each of its lines."""
    width, height = screen.size
    strips = screen.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip)[:width].rstrip() for strip in strips[:height])


class Reader:
    """Who sits before the screen: presses keys, and waits until something is to be seen."""

    def __init__(self, screen: TraceScreen, pilot: Pilot[None]) -> None:
        self.screen, self.pilot = screen, pilot

    @property
    def text(self) -> str:
        return text_of(self.screen)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def sees(self, *words: str, without: str = "\0") -> str:
        """Wait until all of these are to be seen, and that is not."""
        for _ in range(PATIENCE_S * 20):
            await self.pilot.pause(0.05)
            if all(word in self.text for word in words) and without not in self.text:
                return self.text
        raise AssertionError(f"{words} without {without!r} in\n{self.text}")


def read(
    feed: MadeUpFeed,
    reading: Callable[[Reader], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
    **options: Any,
) -> TraceScreen:
    """Show the feed to a reader, on a screen of this size. Raises what ended it."""
    screen = TraceScreen(feed, Options(**options))

    async def show() -> None:
        async with screen.run_test(size=size) as pilot:
            await reading(Reader(screen, pilot))

    asyncio.run(show())
    return screen


def many_rows(count: int) -> Scene:
    """So many call stacks that differ, each with one allocation."""
    scene = Scene()
    base = 0xFFFFFFFF90000000
    functions = {f"function_{number:03}": base + number * 0x1000 for number in range(400)}
    scene.names = KernelNames(parse_kallsyms(kallsyms({**KERNEL_TEXT, **functions, "end": base + (1 << 24)})))
    for key in range(1, count + 1):
        inner, outer = divmod(key, 400)
        frames = [base + inner % 400 * 0x1000 + 2, base + outer * 0x1000 + 2 + inner // 400]
        scene.names.stacks.add(key, frames)
    rows = np.zeros(count, ALLOCATION)
    rows["sequence"], rows["stack"] = np.arange(count), np.arange(1, count + 1)
    rows["object"] = np.uint64(hide(0xFFFF888100000000)) - np.arange(count, dtype=np.uint64) * np.uint64(64)
    rows["time_ns"] = START_NS + np.arange(count)
    rows["kind"], rows["context"], rows["comm"] = Kind.KMALLOC, Context.TASK, b"worker"
    rows["bytes_req"] = rows["bytes_alloc"] = 64
    scene.ledger.apply(Batch(rows, np.zeros(0, FREE)))
    return scene
