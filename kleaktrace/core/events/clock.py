# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's tick count, against the clock of our events.

kmemleak dates objects in jiffies; our allocation events carry them too (low 32 bits), so that the two are compared
as they are, and only ages and the start of the window need a conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

_LOW = 1 << 32
_COMMON_HZ = (100, 250, 300, 1000)  # kernel/Kconfig.hz; others are used as measured


def signed_difference(later: int, earlier: int) -> int:
    """`later - earlier` of two low halves, as the kernel's time_after() sees it: within ±2^31."""
    return (later - earlier + (_LOW >> 1)) % _LOW - (_LOW >> 1)


@dataclass(frozen=True, slots=True)
class Moment:
    """The same moment by both clocks: CLOCK_MONOTONIC in ns, and jiffies (all 64 bits)."""

    time_ns: int
    jiffies: int


@dataclass(frozen=True)
class JiffiesClock:
    """Converts between the clocks, from two moments that are some seconds apart."""

    start: Moment
    end: Moment

    @cached_property
    def hz(self) -> float:
        """Jiffies per second."""
        seconds = (self.end.time_ns - self.start.time_ns) / 1e9
        if seconds <= 0:
            return float(_COMMON_HZ[1])
        measured = (self.end.jiffies - self.start.jiffies) / seconds
        nearest = min(_COMMON_HZ, key=lambda hz: abs(hz - measured))
        # A reading is off by a tick or two at each end.
        return float(nearest) if abs(nearest - measured) <= 4 / seconds + measured / 50 else max(measured, 1.0)

    def before_start(self, jiffies: int, tolerance: int) -> bool:
        """Whether a time in jiffies may lie before the window."""
        return jiffies < self.start.jiffies + tolerance

    def age_s(self, jiffies: int) -> float:
        """Seconds from a time in jiffies to the end."""
        return max(self.end.jiffies - jiffies, 0) / self.hz
