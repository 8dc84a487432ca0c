# SPDX-License-Identifier: GPL-2.0-or-later
"""Grouping by address against numpy's plain sort by two keys."""

from __future__ import annotations

import numpy as np
import pytest
from colliding_keys import unspread

from kleaktrace.core.ledger.address_groups import group_by_address


def hashes(random: np.random.Generator, high: int, low: int, count: int) -> np.ndarray:
    """Some that differ in their `high` high bits and in their `low` low bits at most."""
    return random.integers(0, 1 << high, count, np.uint64) << np.uint64(64 - high) | random.integers(
        0, 1 << low, count, np.uint64
    )


@pytest.mark.parametrize(
    ("high", "low"),
    [
        pytest.param(8, 0, id="the first bits tell them apart"),
        pytest.param(24, 0, id="some share the first bits"),
        pytest.param(10, 1, id="some differ in the last bit only"),
        pytest.param(1, 12, id="all share the first bits"),
    ],
)
@pytest.mark.parametrize("events", [0, 1, 2, 3000])
def test_groups_are_those_of_a_plain_sort(events, high, low):
    random = np.random.default_rng(events)
    hashed = hashes(random, high, low, events)
    keys, sequence = unspread(hashed), random.permutation(events).astype(np.uint64) * np.uint64(3)
    groups = group_by_address(keys, sequence)
    expected = np.lexsort((sequence, hashed))
    assert groups.events.tolist() == expected.tolist()
    assert groups.keys.tolist() == keys[expected].tolist()
    assert groups.head.tolist() == (np.diff(hashed[expected].astype(object), prepend=-1) != 0).tolist()
