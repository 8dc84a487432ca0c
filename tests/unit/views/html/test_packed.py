# SPDX-License-Identifier: GPL-2.0-or-later
"""Packed tables, and what comes out of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from packed_tables import unpacked

from kleaktrace.views.html.packed import differences, packed


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 2**53 - 1))))
def test_columns_come_back(columns: dict[str, list[int]]) -> None:
    made = packed({"said": "\u202e</script>"}, {name: np.array(some, np.uint64) for name, some in columns.items()})
    assert unpacked(made) == {"said": "\u202e</script>", **columns}


def test_the_text_is_plain() -> None:
    assert set(packed({"x": "</script>"}, {"y": [1, 2, 3]})) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
    )


@given(arrays.arrays(np.float64, (3, 5), elements=st.integers(0, 2**52)))
def test_differences_add_up(rows: np.ndarray) -> None:
    steps = [[-(step + 1) // 2 if step % 2 else step // 2 for step in row] for row in differences(rows).tolist()]
    assert np.cumsum(steps, axis=1).tolist() == rows.tolist()
