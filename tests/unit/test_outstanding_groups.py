"""Groups of outstanding allocations say whose they are."""

from __future__ import annotations

import numpy as np
import pytest

from kleaktrace.core.kernel_names import KernelNames
from kleaktrace.core.outstanding import By, group
from kleaktrace.core.outstanding_rows import OUTSTANDING
from kleaktrace.core.symbols import parse_kallsyms


@pytest.mark.parametrize("by", [By.STACK, By.CACHE, By.CONTEXT])
def test_a_group_names_the_tasks_of_all_its_allocations(by: By) -> None:
    rows = np.zeros(5, OUTSTANDING)
    rows["bytes_alloc"] = 64
    rows["time_ns"] = [5, 4, 3, 2, 1]
    rows["comm"] = [b"one", b"two", b"two", b"one", b"three"]
    names = KernelNames(parse_kallsyms(b"ffffffff81000000 T _text\n"))
    (only,) = group(rows, names, by)
    assert only.comm == "one, three, two"
    assert (only.count, only.bytes, only.oldest_ns) == (5, 320, 1)
