# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers told as differences come back as they were, whatever their width, and small differences are small."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.capture.differences import later, summed

widths = st.sampled_from([8, 16, 32, 64])


@given(st.data(), widths)
def test_they_come_back(data: st.DataObject, width: int) -> None:
    numbers = st.integers(0, 2**width - 1)
    values = np.array(data.draw(st.lists(numbers, max_size=20)), f"u{width // 8}")
    before = data.draw(numbers)
    told = later(values, before)
    assert told.dtype == values.dtype
    assert summed(told, before).tolist() == values.tolist()
    assert summed(told, before).dtype == values.dtype


def test_small_differences_are_small_numbers() -> None:
    assert later(np.array([7, 8, 6, 6], np.uint32), before=5).tolist() == [4, 2, 3, 0]
    assert later(np.array([0, 255], np.uint8)).tolist() == [0, 1]
