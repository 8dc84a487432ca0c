# SPDX-License-Identifier: GPL-2.0-or-later
"""What the C side (bpf/) and this one must agree on: counters, states, and the layouts of what is handed over.

A test compares all of it with the C headers. The two records of the event ring are in `core.events.records`.
"""

from __future__ import annotations

import struct
from enum import IntEnum


class Counter(IntEnum):
    """Places in `counters` (bpf/maps.h, enum counter)."""

    FULL_RING_KMALLOC = 0
    FULL_RING_CACHE_ALLOC = 1
    FULL_RING_VMALLOC = 2
    FULL_RING_PERCPU_ALLOC = 3
    FULL_RING_PAGE_ALLOC = 4
    FULL_RING_KFREE = 5
    FULL_RING_CACHE_FREE = 6
    FULL_RING_VFREE = 7
    FULL_RING_PERCPU_FREE = 8
    FULL_RING_PAGE_FREE = 9
    FULL_TABLE = 10
    VMALLOC_UNCALLED = 11
    VMALLOC_UNRETURNED = 12
    BULK_ALLOC_UNCALLED = 13
    BULK_ALLOC_UNRETURNED = 14
    SHEAF_FREE_UNCALLED = 15
    SHEAF_FREE_UNRETURNED = 16
    LONG_BULK_ALLOC = 17
    LONG_BULK_FREE = 18
    BULK_PAGES_UNCALLED = 19
    BULK_PAGES_UNRETURNED = 20
    LOST_STACKS = 21
    LOST_NAMES = 22
    LOST_ENTRIES = 23
    TAKEN_KMALLOC = 24
    TAKEN_KMALLOC_NODE = 25
    TAKEN_CACHE_ALLOC = 26
    TAKEN_CACHE_ALLOC_NODE = 27
    TAKEN_KFREE = 28
    TAKEN_CACHE_FREE = 29
    TAKEN_PAGE_ALLOC = 30
    TAKEN_BULK_FREE = 31
    TAKEN_SHEAF_FREE = 32
    TAKEN_RCU_FREE = 33
    TAKEN_VFREE = 34
    TAKEN_VFREE_ATOMIC = 35
    UNWOUND_STACKS = 36
    CHECKED_STACKS = 37
    WRONG_STACKS = 38
    LOST_SAMPLES = 39


class State(IntEnum):
    """Places in `state` (bpf/maps.h, enum state)."""

    RECORDING = 0
    EPOCH = 1
    MODULES = 2
    TASK_GENERATION = 3
    UNTOLD = 4


class ModuleText(IntEnum):
    """Places in `module_text` (bpf/maps.h, enum text_ranges): the code of the module that is filtered for."""

    CORE_TEXT = 0
    INIT_TEXT = 1


class NameType(IntEnum):
    """What a record of the name ring begins with (bpf/records.h, enum name_type)."""

    STACK_NAME = 1
    CACHE_NAME = 2
    MODULE_LOAD = 3
    MODULE_FREE = 4
    MODULE_PAGE = 5
    STACK_SAMPLE = 6
    PROGRAM_NAME = 7


class Layout(struct.Struct):
    """The first members of a C structure without padding, in order: each a name and a format of `struct`."""

    def __init__(self, structure: str, **members: str) -> None:
        super().__init__("=" + "".join(members.values()))
        self.structure = structure
        self.members = members


# bpf/maps.h
COUNTS = Layout("counts", of=f"{8 * len(Counter)}s")
"""The only element of `counters`, a word for each."""

MOMENT = Layout("moment", time_ns="Q", jiffies="Q")
"""The only element of `clock`."""

TEXT_RANGE = Layout("text_range", start="Q", length="Q")
"""An element of `module_text`."""

# bpf/records.h
STACK_FRAMES = 128
"""Room for frames in a stack_name (STACK_DEPTH and one)."""

MODULE_PAGE_LENGTH = 4096
"""Bytes of a module's memory in one record, whatever the machine's own pages are."""

STACK_NAME = Layout("stack_name", type="I", depth="I", key="Q", time_ns="Q")
"""`frames` follow, STACK_FRAMES words."""

STACK_SAMPLE = Layout(
    "stack_sample",
    name=f"{STACK_NAME.size + 8 * STACK_FRAMES}s",
    root="Q",
    modules="Q",
    recognised="Q",
    event="I",
    words_read="I",
    rest="I",
    in_module="H",
    cut="H",
    base="Q",
)
"""`words` follow."""

CACHE_NAME = Layout("cache_name", type="I", object_size="I", key="Q", size="I", gfp_flags="I", name="64s")

MODULE_NAME = Layout(
    "module_name",
    type="I",
    symbols="I",
    key="Q",
    identity="Q",
    time_ns="Q",
    text="Q",
    text_size="Q",
    init_text="Q",
    init_text_size="Q",
    symbol_table="Q",
    string_table="Q",
    string_table_end="Q",
    name="64s",
)

PROGRAM_NAME = Layout("program_name", type="I", tgid="I", time_ns="Q", length="I")
"""`arguments` follow."""

MODULE_PAGE = Layout("module_page", type="I", error="i", key="Q", address="Q")
"""`data` follow, MODULE_PAGE_LENGTH bytes."""

# bpf/stack_paths.h
PATH_SLOTS = 48
FROM_END = 2
"""As a slot's `lead`: its offset is from the end of the stack."""

STACK_PATH = Layout("stack_path", stack="Q", length="I", in_module="B", doubtful="B", cut="B", reserved="B")
"""`slots` follow, PATH_SLOTS of them."""

PATH_SLOT = Layout("path_slot", address="Q", offset="i", lead="h", end="H")

# bpf/objects.c
CONTENTS_WORDS = 512
"""What is read of an object at most."""

# bpf/pages.c
DESCRIPTOR_BYTES = 64
"""sizeof(struct page), as it must be for pages to be traced."""

MARKS = 4096
"""Pages whose marks lie in one element of `page_marks`."""

PLACE = 16
"""Bytes of code that a key of `page_roles` stands for."""


class PageRole(IntEnum):
    """What a caller of the page allocator is (bpf/pages.c, enum page_role)."""

    PASSES_ON = 1
    COUNTED_ELSEWHERE = 2
