# SPDX-License-Identifier: GPL-2.0-or-later
"""Which call stacks of two recordings are the same, though the kernel was booted or built anew in between."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from kleaktrace.core.arrays.types import Index
from kleaktrace.core.overview.stack_overview import StackOverview
from kleaktrace.core.symbols.call_stacks import function_of
from kleaktrace.core.symbols.symbol_table import Frame


class CompareBy(StrEnum):
    """What makes stacks the same: modules, functions and offsets, or modules and functions only."""

    STACK = "stack"
    FUNCTION = "function"


class CommonStacks:
    """Numbers the stacks of several overviews, the same stack the same in all of them."""

    def __init__(self, by: CompareBy) -> None:
        self.by = by
        self._nodes: dict[tuple[int, object], int] = {}
        self._numbers: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, overview: StackOverview) -> Index:
        """The number of each stack of an overview."""
        tree = overview.tree
        names = [self._name(frame) for frame in tree.frames]
        common: list[int] = []
        for parent, frame in zip(tree.parents, tree.frame_numbers, strict=True):
            place = (common[parent] if parent >= 0 else -1, names[frame])
            common.append(self._nodes.setdefault(place, len(self._nodes)))
        leaves = (common[leaf] for leaf in overview.leaves.tolist())
        return np.array([self._numbers.setdefault(leaf, len(self._numbers)) for leaf in leaves], np.intp)

    def frames(self, overview: StackOverview, stack: int) -> tuple[Frame, ...]:
        """The frames of a stack, innermost first, as far as they tell the stack from others."""
        tree, node, found = overview.tree, int(overview.leaves[stack]), []
        while node >= 0:
            found.append(tree.frames[tree.frame_numbers[node]])
            node = tree.parents[node]
        return tuple(found) if self.by is CompareBy.STACK else tuple(map(_function, found))

    def lines(self, frames: Sequence[Frame]) -> tuple[str, ...]:
        """The same in words."""
        if self.by is CompareBy.STACK:
            return tuple(map(str, frames))
        return tuple(frame.title for frame in frames)

    def _name(self, frame: Frame) -> object:
        if frame.name is None:
            return None  # its address is another after the next boot
        if self.by is CompareBy.STACK:
            return frame.name, frame.offset, frame.module
        return function_of(frame.name), frame.module


def _function(frame: Frame) -> Frame:
    """Without the place in it."""
    if frame.name is None:
        return frame
    return Frame(frame.address, function_of(frame.name), module=frame.module)
