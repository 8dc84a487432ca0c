"""What was freed between what was not goes back to the kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kleaktrace.edge.heap import give_back, keep_large_apart


def anonymous() -> int:
    """Bytes."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) * 1024


def test_holes_are_given_back() -> None:
    arrays = [np.ones(8192) for _ in range(512)]  # 64 KiB each, from the heap and not from mmap
    kept = arrays[1::2]
    before = anonymous()
    del arrays
    give_back()
    assert before - anonymous() > 12 << 20, "of 16 MiB"
    assert all(array.all() for array in kept)


def test_large_arrays_go_back_at_once() -> None:
    keep_large_apart()
    array = np.ones((4 << 20) - 1024)  # nearly 32 MiB: the largest that glibc would follow
    del array
    large = np.ones(1 << 20)
    behind = [np.ones(8192) for _ in range(64)]
    before = anonymous()
    del large
    assert before - anonymous() > 7 << 20, "of 8 MiB; the kernel counts in steps of some pages"
    assert all(array.all() for array in behind)
