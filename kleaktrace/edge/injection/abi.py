# SPDX-License-Identifier: GPL-2.0-or-later
"""What bpf/inject.c and its user space must agree on. A test compares all of it with the C side."""

from __future__ import annotations

from enum import IntEnum

from kleaktrace.edge.tracing.abi import Layout


class Mode(IntEnum):
    """Of an order (enum injection_mode)."""

    OFF = 0
    COUNT = 1
    NEXT = 2
    CHOSEN = 3
    NTH = 4


class State(IntEnum):
    """Places in `state` (enum injection_state)."""

    PASSED = 0
    NOTED = 1
    LOADED = 2
    WATCHER = 3


class Injected(IntEnum):
    """What was asked for (enum injected)."""

    SLAB = 0
    PAGES = 1


DEPTH = 64
"""Room for frames in an injected_failure."""

MOST_STACKS = 4096
"""Failures that are noted in a run."""

FUNCTION_RANGES, MACHINERY_RANGES = 4, 8
"""Room for ranges of code in an order."""

KERNEL = 1
"""As the text of a place: the kernel's own. Modules go by hashes of their names."""

INIT = 1 << 40
"""Added to how far a place is into a module's __init text."""

NAME_BYTES = 64
"""Of a module's name, with NULs behind it."""

PAGE = 4096
"""Bytes of code that an element of `text_pages` tells of, whatever the machine's own pages are."""

PLACE_RANGE = Layout("place_range", text="Q", start="Q", length="Q")

ORDER = Layout(
    "injection_order",
    mode="Q",
    run="Q",
    wanted="Q",
    module="Q",
    any_text="Q",
    functions=f"{FUNCTION_RANGES * PLACE_RANGE.size}s",
    machinery=f"{MACHINERY_RANGES * 16}s",
)
"""`functions`: place_ranges. `machinery`: pairs of words, an address and a length."""

FAILURE = Layout(
    "injected_failure",
    run="Q",
    time_ns="Q",
    hash="Q",
    bytes="Q",
    tgid="I",
    tid="I",
    kind="I",
    depth="I",
    comm="16s",
)
"""`frames` follow, DEPTH words."""

TEXT_PAGE = Layout("text_page", text="Q", distance="Q")
