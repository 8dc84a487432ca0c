# SPDX-License-Identifier: GPL-2.0-or-later
"""Outstanding memory as a call tree: who called whom until somebody asked for memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL
from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.symbols.call_stacks import Stack


@dataclass(slots=True)
class CallNode:
    """A function, and what was asked for below it: bytes (as allocated) and objects, its own among them."""

    name: str
    bytes: int = 0
    objects: int = 0
    children: dict[str, CallNode] = field(default_factory=dict)

    @property
    def by_bytes(self) -> Sequence[CallNode]:
        """The functions it called, most bytes first."""
        return sorted(self.children.values(), key=lambda node: (-node.bytes, -node.objects, node.name))


def call_tree(groups: Iterable[AllocationGroup]) -> CallNode:
    """The groups as a tree below a root without a name; a group is one call stack each.

    Functions that only allocate for their callers are folded away: a branch ends at who asked. What an interrupt came
    upon had nothing to do with it, and is left out.
    """
    root = CallNode("")
    for group in groups:
        node = root
        _add(node, group)
        for name in _path(group.stack):
            node = node.children.setdefault(name, CallNode(name))
            _add(node, group)
    return root


def _add(node: CallNode, group: AllocationGroup) -> None:
    node.bytes += group.bytes
    node.objects += group.count


def _path(stack: Stack) -> list[str]:
    """From the outermost function to the one that asked."""
    frames, requester = stack.own_frames, stack.requester
    if requester in frames:
        frames = frames[frames.index(requester) :]
    return [frame.title for frame in reversed(frames)] or [NO_STACK_LABEL]
