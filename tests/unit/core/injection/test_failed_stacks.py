# SPDX-License-Identifier: GPL-2.0-or-later
"""Of a failed allocation's call stack, what tells who asked."""

from __future__ import annotations

import pytest

from kleaktrace.core.injection.failed_stacks import asking_frames, asking_lines
from kleaktrace.core.symbols.symbol_table import Frame

DRIVER = Frame(7, "drv_init", 0x10, 0x90, "drv")


@pytest.mark.parametrize(
    "inside",
    [
        ("should_failslab", "__kmalloc_noprof"),
        ("should_failslab", "kmem_cache_alloc_node_noprof", "__get_vm_area_node", "__vmalloc_node_range_noprof"),
        ("should_fail_alloc_page", "__alloc_pages_noprof", "___kmalloc_large_node", "__kmalloc_large_node_noprof"),
        (
            "should_fail_alloc_page",
            "prepare_alloc_pages.constprop.0",
            "alloc_pages_mpol_noprof",
            "get_free_pages",
        ),
        ("should_failslab", "__kmalloc_node_track_caller_noprof", "kvasprintf", "kasprintf"),
        ("should_failslab", "__get_vm_area_node", "bpf_trampoline_6442468876", "__vmalloc_node_range_noprof"),
    ],
)
def test_the_allocators_own_frames_are_left_out(inside: tuple[str, ...]) -> None:
    frames = [Frame(number, name, 1, 2) for number, name in enumerate(inside)]
    assert asking_frames([*frames, DRIVER]) == (DRIVER,)
    assert asking_lines([*map(str, frames), str(DRIVER)]) == (str(DRIVER),)


def test_a_frame_without_a_name_may_be_who_asked() -> None:
    frames = [Frame(1, "should_failslab", 1, 2), Frame(2), DRIVER]
    assert asking_frames(frames) == (Frame(2), DRIVER)


def test_where_nothing_else_is_known_all_is_left() -> None:
    frames = (Frame(1, "should_failslab", 1, 2),)
    assert asking_frames(frames) == frames
    assert asking_lines([str(frames[0])]) == (str(frames[0]),)
