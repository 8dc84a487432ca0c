"""How long to rest between two looks at the event ring.

Each look costs about a millisecond however little there is, and a batch that is too large for the processor's caches
costs more for each event. So the rest is as long as a good batch takes to come at the rate of the last one; but never
so long that a machine that suddenly allocates flat out could fill much of the ring.
"""

from __future__ import annotations

from dataclasses import dataclass

_GOOD_BATCH = 4 << 20
"""Bytes: 65,536 units of the ring, some 45,000 events."""

_BUSY_PROCESSOR = 130_000_000
"""Bytes a second that a processor writes that does nothing but allocate and free."""

_BUSY_RING = 700_000_000
"""Bytes a second that all processors together can write: the ring has one lock (docs/benchmarks.md)."""

_SHARE = 4
"""A rest lets at most one part in so many of the ring fill."""

_SHORTEST_S, _LONGEST_S = 0.005, 0.1


@dataclass(frozen=True, slots=True)
class DrainPace:
    """The pace for a ring of so many bytes on a machine of so many processors."""

    ring: int
    processors: int

    @property
    def longest_s(self) -> float:
        """The rest where next to nothing happens."""
        worst = min(_BUSY_PROCESSOR * self.processors, _BUSY_RING)
        return max(min(self.ring / _SHARE / worst, _LONGEST_S), _SHORTEST_S)

    def rest_s(self, taken: int, seconds: float) -> float:
        """The rest after `taken` bytes were found that had come in `seconds`."""
        if taken <= 0:
            return self.longest_s
        return max(min(_GOOD_BATCH * seconds / taken, self.longest_s), _SHORTEST_S)
