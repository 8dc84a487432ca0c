# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks as a tree, outermost frame first: what begins alike is kept once."""

from __future__ import annotations

from collections.abc import Iterable

from kleaktrace.core.symbols.symbol_table import Frame

ROOT = -1
"""The parent of outermost frames."""


class FrameTree:
    """Nodes are numbered as they come: a parent's number is less than those of its children.

    frames: the distinct ones, by name, whatever the address. parents, frame_numbers: of each node.
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.parents: list[int] = []
        self.frame_numbers: list[int] = []
        self._numbers: dict[object, int] = {}
        self._nodes: dict[tuple[int, int], int] = {}

    def add(self, frames: Iterable[Frame]) -> int:
        """The node of the innermost of these frames, given outermost first; `ROOT` if there are none."""
        node = ROOT
        for frame in frames:
            place = node, self._number(frame)
            known = self._nodes.get(place)
            if known is None:
                known = self._nodes[place] = len(self.parents)
                self.parents.append(node)
                self.frame_numbers.append(place[1])
            node = known
        return node

    def _number(self, frame: Frame) -> int:
        # A module that is loaded again brings the same frames at other addresses.
        name: object = (frame.name, frame.offset, frame.module) if frame.name is not None else frame.address
        number = self._numbers.setdefault(name, len(self.frames))
        if number == len(self.frames):
            self.frames.append(frame)
        return number
