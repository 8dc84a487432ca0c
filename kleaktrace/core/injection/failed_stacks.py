# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks of allocations that failed: from should_failslab outwards, and what of them tells who asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kleaktrace.core.symbols.call_stacks import function_of, module_of, trim
from kleaktrace.core.symbols.requesters import is_allocator
from kleaktrace.core.symbols.symbol_table import Frame

# Linux 6.12, mm/: from where the kernel asks whether to fail out to the functions that others call. Slabs, pages, and
# what vmalloc and the per-CPU allocator ask of both. The trampolines are those of our own programs.
_INSIDE = re.compile(
    r"^_*(should_fail\w*|fault_inject\w*|slab_pre_alloc_hook|kmalloc_large\w*|kmalloc_cache\w*|kmalloc_node\w*"
    r"|prepare_alloc_pages|alloc_pages\w*|alloc_frozen_pages\w*|folio_alloc\w*|alloc_contig\w*|vm_area_alloc_pages"
    r"|vmalloc_area\w*|vmap_\w+|vm_map_ram|pte_alloc_kernel|pcpu_\w+|dump_stack\w*|bpf_trampoline_\w+)$"
)
_COMPILED = re.compile(r"\..*$")


def asking_frames(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The frames from the code on that called the allocator; all of them if nothing else is there."""
    start = 0
    for number, frame in enumerate(frames, start=1):
        if frame.name is not None and not _is_inside(frame.name):
            break
        if frame.name is not None:
            start = number
    return trim(frames[start:]) or tuple(frames)


def asking_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The same of frames as text, as the kernel's log has them."""
    start = 0
    for number, line in enumerate(lines, start=1):
        if not _is_inside(function_of(line)):
            break
        start = number
    return tuple(lines[start:]) or tuple(lines)


def modules_of(lines: Sequence[str]) -> frozenset[str]:
    """The modules that a call stack goes through, in frames as text."""
    return frozenset(filter(None, map(module_of, lines)))


def _is_inside(function: str) -> bool:
    return is_allocator(function) or _INSIDE.match(_COMPILED.sub("", function).removesuffix("_noprof")) is not None
