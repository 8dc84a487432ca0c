# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from recordings import HOSTILE, hostile, nothing
from reports import console, group, printed, report

from kleaktrace.core.events.records import Context
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.views.terminal.tree import show_tree


def shown(*groups: tuple[str, int, int]) -> str:
    """Of groups (functions innermost first, bytes, objects)."""
    made = [
        group(
            stack=Stack(tuple(Frame(at, name, 2, 8) for at, name in enumerate(names.split())), Context.TASK),
            bytes=size,
            count=count,
        )
        for names, size, count in groups
    ]
    screen = console(200)
    show_tree(screen, report(outstanding=made))
    return printed(screen)


def test_a_tree_with_branches_and_a_chain() -> None:
    assert shown(("leaf_a inner main", 3000, 3), ("leaf_b inner main", 1000, 2), ("other start", 96, 1)) == (
        "     bytes   objects  share  called\n"
        "   3.9 KiB         5    98%  main\n"
        "                             inner\n"
        "   2.9 KiB         3    73%  ├ leaf_a\n"
        "    1000 B         2    24%  └ leaf_b\n"
        "      96 B         1     2%  start\n"
        "                             other\n"
        "   4.0 KiB         6         in all\n"
    )


def test_small_branches_are_summed_and_a_single_one_is_not_followed() -> None:
    text = shown(("big main", 99_000, 9), ("a x main", 100, 1), ("b y main", 200, 2), ("deep down far", 50, 1))
    assert text.splitlines()[1:-1] == [
        "  97.0 KiB        12   100%  main",
        "  96.7 KiB         9   100%  ├ big",
        "     300 B         3     0%  └ (2 smaller)",
        "      50 B         1     0%  far",
    ]


def test_nothing_outstanding() -> None:
    screen = console()
    show_tree(screen, nothing()[1])
    assert printed(screen).splitlines()[-1] == "(nothing outstanding)"


def test_hostile_names_are_cleaned_and_cut() -> None:
    screen = console(10_000)
    show_tree(screen, hostile()[1])
    lines = printed(screen).splitlines()
    assert all(line.isprintable() and len(line) < 300 for line in lines)
    assert len(lines) == 3 + len(HOSTILE)


def test_any_depth() -> None:
    names = " ".join(f"f{number}" for number in range(5000))
    assert len(shown((names, 100, 1), ("g", 100, 1)).splitlines()) == 5003
