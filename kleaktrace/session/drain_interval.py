# SPDX-License-Identifier: GPL-2.0-or-later
"""How long to rest between two looks at the event ring.

Each look costs some milliseconds of a busy processor however little there is, as it finds its caches full of others'
things; and a batch that is too large for the caches costs more for each event. So the rest is as long as a good batch
takes to come at the rate of the last one. A ring that fills faster than that ends it (bpf/common.h, wake_if_filled),
and so does a stack that costs too much as long as it is not learned (bpf/stack_paths.h, wake_to_learn).
"""

from __future__ import annotations

_GOOD_BATCH = 4 << 20
"""Bytes: 65,536 units of the ring, some 45,000 events."""

_SHORTEST_S, _LONGEST_S = 0.005, 0.5


def drain_interval_s(taken: int, seconds: float) -> float:
    """The rest after `taken` bytes were found that had come in `seconds`."""
    if taken <= 0:
        return _LONGEST_S
    return max(min(_GOOD_BATCH * seconds / taken, _LONGEST_S), _SHORTEST_S)
