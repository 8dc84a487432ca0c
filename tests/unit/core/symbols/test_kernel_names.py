# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from builders import kernel_names

from kleaktrace.core.events.records import Kind
from kleaktrace.core.symbols.kernel_names import CacheName, is_reclaimable, kmalloc_cache


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (8, "kmalloc-8"),
        (96, "kmalloc-96"),
        (192, "kmalloc-192"),
        (512, "kmalloc-512"),
        (1024, "kmalloc-1k"),
        (8192, "kmalloc-8k"),
        (8193, "kmalloc-large"),
        (1 << 20, "kmalloc-large"),
    ],
)
def test_kmalloc_caches_are_named_by_their_size_as_the_kernel_does(size: int, name: str) -> None:
    assert kmalloc_cache(size) == name


def test_what_an_allocation_came_out_of_is_told_by_its_kind() -> None:
    names = kernel_names()
    names.caches[5] = CacheName(5, "dentry", 192, 192)
    assert names.cache(Kind.CACHE, 5, 192) == "dentry"
    assert names.cache(Kind.CACHE, 6, 192) == ""
    assert names.cache(Kind.KMALLOC, 0, 192) == "kmalloc-192"
    assert names.cache(Kind.VMALLOC, 0, 8192) == "vmalloc"
    assert names.cache(Kind.PERCPU, 0, 8) == "percpu"


def test_gfp_flags_tell_what_the_kernel_can_take_back() -> None:
    gfp_kernel = 0xCC0  # include/linux/gfp_types.h
    assert not is_reclaimable(gfp_kernel)
    assert is_reclaimable(gfp_kernel | 0x10)
