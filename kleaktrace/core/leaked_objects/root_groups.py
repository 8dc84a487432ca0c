# SPDX-License-Identifier: GPL-2.0-or-later
"""The roots among leaked objects by call stack, with what hangs on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import Index
from kleaktrace.core.events.records import Rows
from kleaktrace.core.leaked_objects.pointer_graph import ObjectGraph


@dataclass(frozen=True, slots=True)
class HeldStack:
    """`count` objects of a call stack, `bytes` in all (allocated), that hang on the roots of a group."""

    stack: int
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RootGroup:
    """The roots of one call stack. `roots` are their numbers among the objects; bytes are allocated ones.

    `fewest` and `most` others hang on one of them; `held_stacks` is who they are, the most objects first.
    """

    stack: int
    roots: tuple[int, ...]
    bytes: int
    fewest: int
    most: int
    held_bytes: int
    held_stacks: tuple[HeldStack, ...]

    @property
    def held(self) -> int:
        """How many others hang on all of them."""
        return sum(held.count for held in self.held_stacks)


def root_groups(rows: Rows, graph: ObjectGraph) -> tuple[RootGroup, ...]:
    """Group the roots; those that take most bytes with all that hangs on them first. `rows` are the graph's."""
    roots = graph.roots
    held = (graph.root_of != np.arange(rows.size)).nonzero()[0]
    stack_of_root = rows["stack"][graph.root_of[held]]
    groups = [
        _group(stack, rows, graph, roots[rows["stack"][roots] == stack], held[stack_of_root == stack])
        for stack in np.unique(rows["stack"][roots])
    ]
    return tuple(sorted(groups, key=lambda group: (-group.bytes - group.held_bytes, -len(group.roots), group.stack)))


def _group(stack: np.uint64, rows: Rows, graph: ObjectGraph, roots: Index, held: Index) -> RootGroup:
    counts = graph.held[roots]
    sizes = rows["bytes_alloc"]
    stacks, which = np.unique(rows["stack"][held], return_inverse=True)
    columns = (stacks, np.bincount(which), np.bincount(which, sizes[held].astype(np.float64)))
    held_stacks = [HeldStack(int(key), int(count), int(size)) for key, count, size in zip(*columns, strict=True)]
    return RootGroup(
        stack=int(stack),
        roots=tuple(roots.tolist()),
        bytes=int(sizes[roots].sum()),
        fewest=int(counts.min()),
        most=int(counts.max()),
        held_bytes=int(graph.held_bytes[roots].sum()),
        held_stacks=tuple(sorted(held_stacks, key=lambda one: (-one.count, -one.bytes, one.stack))),
    )
