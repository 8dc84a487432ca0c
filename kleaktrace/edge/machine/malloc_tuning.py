# SPDX-License-Identifier: GPL-2.0-or-later
"""Gives memory back that was freed, and that the C library would keep.

Each batch takes some dozen arrays for a moment. What outlives them lies between them, and so glibc never finds the end
of its heap free, which is all that it gives back by itself: a third of what we hold after a storm would be holes.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

EVERY_S = 10.0
"""Each time takes some milliseconds, here and when the next batches take the pages anew."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h, M_TRIM_THRESHOLD and so on
_LARGE = 4 << 20
_KEPT = 64 << 20
"""At the end of the heap, for the next batch, until it is given back. With pages anew for each, an event takes 85 ns
and not 50."""


@cache
def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)  # of glibc alone


def keep_small() -> None:
    """Have large arrays in mappings of their own, that end with them, and one heap for all threads (mallopt(3)).

    To be called before there are other threads. glibc starts with large arrays apart, but takes the size of each that
    is freed for one that is often needed and had better be in the heap; arrays of a good batch are smaller than what is
    large here. And with a heap for each thread, each would keep room for the same work.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Give back all pages without anything on them (malloc_trim(3)), where there is a way to."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)
