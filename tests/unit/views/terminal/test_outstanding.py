# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from reports import EVIL, STACK, START_NS, console, group, printed
from rich.console import Group as Renderables

from kleaktrace.core.events.records import Context
from kleaktrace.core.grouping.group_labels import OUTSTANDING_BY, GroupBy
from kleaktrace.core.rates.interval_rates import Rate
from kleaktrace.core.symbols.call_stacks import NO_STACK, Stack
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.views.terminal.outstanding import lines

NOW_NS = START_NS + 20_000_000_000
HEADING = "     bytes     count       net/s alloc/s  free/s   oldest  "


def shown(*arguments: object, width: int = 100) -> str:
    screen = console(width)
    screen.print(Renderables(lines(*arguments)))  # type: ignore[arg-type]
    return printed(screen)


def test_stacks_with_their_figures() -> None:
    groups = [
        group(count=12_345, bytes=5 << 20),
        group(bytes=4096, count=1, oldest_ns=NOW_NS + 5, contexts=frozenset({Context.HARDIRQ})),
    ]
    found = [Rate(12_480, 3.2, 2048), Rate(0, 1, -128)]
    assert shown(groups, found, NOW_NS, GroupBy.STACK, 12) == (
        f"{HEADING}call stack\n"
        "   5.0 MiB    12,345    +2.0 KiB   12.5k     3.2   10.0 s  drv_probe [drv]: kmalloc-128, task, insm…\n"
        "      drv_probe+0x22/0x100 [drv]\n"
        "      do_one_initcall+0x22/0x1000\n"
        "   4.0 KiB         1      -128 B       0     1.0     0 ms  drv_probe [drv]: kmalloc-128, hardirq, i…\n"
        "      drv_probe+0x22/0x100 [drv]\n"
        "      do_one_initcall+0x22/0x1000\n"
    )


def test_other_groupings_have_no_frames() -> None:
    assert shown([group()], [Rate(0, 0, 0)], NOW_NS, GroupBy.CACHE, 12) == (
        f"{HEADING}cache\n     384 B         3         0 B       0       0   10.0 s  kmalloc-128\n"
    )


def test_long_stacks_are_cut_and_the_rest_counted() -> None:
    stack = Stack(tuple(Frame(1, f"f{n}", 1, 2) for n in range(5)), STACK.context)
    text = shown([group(stack=stack)], [Rate(0, 0, 0)], NOW_NS, GroupBy.STACK, 2)
    assert text.splitlines()[2:] == ["      f0+0x1/0x2", "      f1+0x1/0x2", "      … 3 more"]


def test_a_stack_that_was_lost_and_an_empty_table_say_so() -> None:
    text = shown([group(stack=NO_STACK)], [Rate(0, 0, 0)], NOW_NS, GroupBy.STACK, 2)
    assert text.splitlines()[2:] == ["      (no stack could be taken)"]
    assert shown([], [], NOW_NS, GroupBy.STACK, 2) == f"{HEADING}call stack\n(nothing outstanding)\n"


def test_on_a_narrow_screen_each_line_is_cut_to_one() -> None:
    text = shown([group()], [Rate(0, 0, 0)], NOW_NS, GroupBy.STACK, 12, width=60)
    assert [len(line) <= 60 for line in text.splitlines()] == [True] * 4
    assert text.splitlines()[1].endswith("…")
    assert text.splitlines()[2] == "      drv_probe+0x22/0x100 [drv]"


def test_nothing_from_the_kernel_reaches_the_terminal_raw() -> None:
    evil = group(comm=EVIL, label=EVIL, cache=EVIL, stack=Stack((Frame(1, EVIL, 1, 2, EVIL),), STACK.context))
    for by in OUTSTANDING_BY:
        text = shown([evil], [Rate(0, 0, 0)], NOW_NS, by, 12, width=300)
        assert "\\x1b[2J\\x1b]0;owned\\x07" in text
        assert all(line.isprintable() for line in text.split("\n"))
