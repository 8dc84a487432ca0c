# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of events. Their layouts are compared with the C side in edge/tracing/test_abi.py."""

from __future__ import annotations

from builders import rows

from kleaktrace.core.events.records import ALLOCATION, FREE, UNIT, Batch


def test_a_free_takes_one_unit_and_an_allocation_two() -> None:
    assert (FREE.itemsize, ALLOCATION.itemsize) == (UNIT, 2 * UNIT)
    assert ALLOCATION.fields["second_unit"][1] == UNIT


def test_the_size_of_a_batch_counts_both() -> None:
    assert Batch(rows(ALLOCATION, {}, {}), rows(FREE, {})).size == 3
