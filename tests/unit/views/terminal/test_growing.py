# SPDX-License-Identifier: GPL-2.0-or-later
"""What people read about growing stacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reports import EVIL, STACK, START_NS, console, growing_stack, printed, report

from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.views.terminal.growing import lines, share, words
from kleaktrace.views.terminal.report import show

NOW_NS = START_NS + 31_500_000_000


def shown(*found: object, frames: int = 12, many: int = 20) -> str:
    screen = console(200)
    screen.print(lines(found, NOW_NS, frames, many), soft_wrap=True)  # type: ignore[arg-type]
    return printed(screen)


def test_a_growing_stack() -> None:
    assert shown(growing_stack()) == (
        "growing: allocated again and again, and some of it never comes back\n"
        "  drv_probe [drv]: +1.2 KiB/s (95 %: 1.1 KiB to 1.3 KiB) for 30.5 s, 12 % of its allocations never freed so "
        "far, 340 outstanding (42.5 KiB); kmalloc-128, task, insmod\n"
        "      drv_probe+0x22/0x100 [drv]\n"
        "      do_one_initcall+0x22/0x1000\n"
        "  A leak, or a cache that nothing has bounded yet; kmemleak can't see it while something points there.\n"
    )


def test_what_grew_while_a_command_ran_is_told_for_that_long() -> None:
    """And not for as long as it has lain there since, which with the rate would make far more than there is."""
    steady = growing_stack().growing
    burst = growing_stack(growing=replace(steady, until_ns=steady.since_ns + 42_000_000))
    now_ns = steady.since_ns + 58_842_000_000
    assert "for 42 ms, 58.8 s ago, 12 % of its" in words(burst, now_ns)
    assert "for 58.8 s, 12 % of its" in words(growing_stack(), now_ns)


def test_what_kmemleak_says_of_it() -> None:
    silent, leaking = growing_stack(listed=0), growing_stack(listed=3)
    assert "something still points to: a list or table that is never emptied" in shown(silent)
    both = shown(silent, leaking)
    assert both.count("kmemleak lists 3 of them: see above\n") == 1
    assert "something still points to" in both
    assert shown(leaking).endswith("  These are leaking at this rate.\n")


def test_a_live_screen_gets_a_few_lines() -> None:
    text = shown(*[growing_stack()] * 5, frames=1, many=3)
    assert text.count("drv_probe") == 6
    assert text.count("… 1 more\n") == 3
    assert "… and 2 more call stacks" in text


def test_nothing_from_the_kernel_reaches_the_terminal_raw() -> None:
    text = shown(growing_stack(comm=EVIL, cache=EVIL, frames=(Frame(1, EVIL, 1, 2, EVIL),)))
    assert text.count("\\x1b[2J") == 6
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("fraction", "words"),
    [(1.0, "100 %"), (0.1234, "12 %"), (0.0996, "10 %"), (0.0123, "1.2 %"), (0.0004, "0.04 %"), (1e-6, "below 0.01 %")],
)
def test_shares(fraction: float, words: str) -> None:
    assert share(fraction) == words


def test_the_report_has_it_before_its_outcome_and_stays_clean() -> None:
    screen = console()
    show(screen, report(growing=[growing_stack(frames=STACK.frames)]))
    text = printed(screen)
    assert "\n\ngrowing: " in text
    assert "points there.\nstill allocated by modules: " in text
    assert text.endswith("\n\nclean: 0 confirmed, 0 dismissed, 0 undecided\n")
