# SPDX-License-Identifier: GPL-2.0-or-later
"""What was freed between what was not goes back to the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from kleaktrace.edge.machine.malloc_tuning import give_back


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


# In a process of its own: one that has freed much already has room for large arrays in its heap.
_LARGE_ARRAYS = """
import numpy as np
from test_malloc_tuning import anonymous
from kleaktrace.edge.machine.malloc_tuning import keep_small
keep_small()
array = np.ones((4 << 20) - 1024)  # nearly 32 MiB: the largest that glibc would follow
del array
large = np.ones(1 << 20)
behind = [np.ones(8192) for _ in range(64)]
before = anonymous()
del large
print(before - anonymous())
"""


def test_large_arrays_go_back_at_once() -> None:
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[4])])
    command = [sys.executable, "-c", _LARGE_ARRAYS]
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 7 << 20, "of 8 MiB; the kernel counts in steps of some pages"
