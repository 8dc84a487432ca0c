# SPDX-License-Identifier: GPL-2.0-or-later
"""Outstanding memory as a call tree: the outermost callers first, at the ends who asked for memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from kleaktrace.core.overview.call_tree import CallNode, call_tree
from kleaktrace.core.report import Report
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import units

_SMALL = 0.01
"""Branches with a smaller share of all bytes are not followed; of several beside each other, only the sum is told."""

_LONGEST_NAME = 200
_FIGURES = "{:>10} {:>9} {:>6}  "


@dataclass(frozen=True, slots=True)
class _Line:
    """What stands on a line: guides are the lines that lead to it, from the left.

    repeats: whether all of it was on the line above already, which is of its only caller.
    """

    guides: str
    name: str
    bytes: int
    objects: int
    repeats: bool


def show_tree(console: Console, report: Report) -> None:
    """A line for each function, with the bytes and objects asked for below it if they differ from its caller's."""
    root = call_tree(report.outstanding)
    heading = _FIGURES.format("bytes", "objects", "share")
    _print(console, heading + "called", "bold")
    if not root.objects:
        _print(console, "(nothing outstanding)", "dim")
        return
    for line in _lines(root, root.bytes):
        share = f"{line.bytes / root.bytes:.0%}" if root.bytes else ""
        figures = ("", "", "") if line.repeats else (units.size(line.bytes), f"{line.objects:,}", share)
        _print(console, _FIGURES.format(*figures) + line.guides + line.name)
    _print(console, _FIGURES.format(units.size(root.bytes), f"{root.objects:,}", "") + "in all", "bold")


def _lines(root: CallNode, total: int) -> Iterator[_Line]:
    """All lines below the root, in their order. Without recursion: a hostile capture may nest as deep as it likes."""
    waiting = [(node, "", "", root) for node in reversed(_branches(root, total))]
    while waiting:
        node, lead, guides, caller = waiting.pop()
        repeats = caller is not root and (node.bytes, node.objects) == (caller.bytes, caller.objects)
        yield _Line(lead, _name(node), node.bytes, node.objects, repeats)
        below = _branches(node, total) if node.bytes >= total * _SMALL else []
        if len(below) == 1:
            waiting.append((below[0], guides, guides, node))
            continue
        for number, child in reversed(list(enumerate(below))):
            last = number == len(below) - 1
            waiting.append((child, guides + ("└ " if last else "├ "), guides + ("  " if last else "│ "), node))


def _branches(node: CallNode, total: int) -> Sequence[CallNode]:
    """The functions it called; small ones as one."""
    below = node.by_bytes
    small = [child for child in below if child.bytes < total * _SMALL]
    if len(small) < 2:
        return below
    rest = CallNode(f"({len(small):,} smaller)", sum(c.bytes for c in small), sum(c.objects for c in small))
    return [*below[: len(below) - len(small)], rest]


def _name(node: CallNode) -> str:
    name = clean(node.name)
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def _print(console: Console, words: str, style: str = "") -> None:
    console.print(Text(words, style=style), soft_wrap=True)
