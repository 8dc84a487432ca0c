"""Gives memory back that was freed long ago, and that the C library keeps.

Each batch takes some dozen arrays for a moment. What outlives them lies between them, and so glibc never finds the end
of its heap free, which is all that it gives back by itself: a third of what we hold after a storm would be holes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

EVERY_S = 10.0
"""Each time takes some milliseconds, here and when the next batches take the pages anew."""


@cache
def _trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone


def give_back() -> None:
    """Give back all pages without anything on them (malloc_trim(3)), where there is a way to."""
    trim = _trim()
    if trim is not None:
        trim(0)
