# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.overview.frame_tree import ROOT, FrameTree
from kleaktrace.core.symbols.symbol_table import Frame

FRAMES = [Frame(address, f"f{address}", 2, 8) for address in range(4)]


def up(tree: FrameTree, node: int) -> list[Frame]:
    """Outermost first."""
    found: list[Frame] = []
    while node != ROOT:
        found.insert(0, tree.frames[tree.frame_numbers[node]])
        node = tree.parents[node]
    return found


@given(st.lists(st.lists(st.sampled_from(FRAMES))))
def test_every_stack_is_found_again_from_its_node(stacks: list[list[Frame]]) -> None:
    tree = FrameTree()
    nodes = [tree.add(stack) for stack in stacks]
    assert [up(tree, node) for node in nodes] == stacks
    assert len(set(nodes)) == len(set(map(tuple, stacks)))
    assert len(tree.parents) == len({tuple(stack[:end]) for stack in stacks for end in range(1, len(stack) + 1)})
    assert all(parent < node for node, parent in enumerate(tree.parents))


def test_a_frame_is_the_same_wherever_its_module_was_loaded() -> None:
    tree = FrameTree()
    first = tree.add([Frame(0x1000, "drv_probe", 2, 8, "drv")])
    assert tree.add([Frame(0x9000, "drv_probe", 2, 8, "drv")]) == first
    assert tree.add([Frame(0x9000, "drv_probe", 2, 8, "other")]) != first
    assert tree.add([Frame(0x9000)]) != tree.add([Frame(0x9001)])
