# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured so far, on which machines: a figure far from that says more of a machine than of a change."""

from __future__ import annotations

from collections.abc import Mapping

from bench_lib.figures import Figure

SEEN: Mapping[str, tuple[float, float]] = {
    "sockets: kleaktrace by memleak": (0.18, 0.28),
    "files: kleaktrace by memleak": (0.20, 0.22),
    "held: kleaktrace by memleak": (0.17, 0.20),
    "forks: kleaktrace by memleak": (0.16, 0.29),
    "flat: kleaktrace by memleak": (0.20, 0.45),
}
"""The least and the greatest median of each, on the machines that docs/benchmarks.md names."""

_FAR = 1.3
"""Times the outermost."""


def is_far(figure: Figure) -> str:
    """How a figure lies to what was seen, in words, if it lies far from it; else nothing."""
    seen = SEEN.get(figure.what)
    if seen is None or figure.median is None:
        return ""
    low, high = seen
    if low / _FAR <= figure.median <= high * _FAR:
        return ""
    return f"far from what was seen so far, {low:g} to {high:g}: this machine is unlike those of docs/benchmarks.md"
