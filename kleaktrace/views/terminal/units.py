# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers as people read them."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes: 129 B, 4.0 KiB, 1.2 MiB; negative for what was given back."""
    sign, count = ("-", -count) if count < 0 else ("", count)
    if round(count) < 1024:
        return f"{sign}{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if round(count, 1) < 1024:
            return f"{sign}{count:.1f} {unit}"
    return f"{sign}{count / 1024:.1f} TiB"


def rate(per_second: float) -> str:
    """Events per second: 0, 3.2, 12.5k."""
    if per_second >= 10_000:
        return f"{per_second / 1000:.1f}k"
    if per_second >= 100:
        return f"{per_second:.0f}"
    return f"{per_second:.1f}" if per_second else "0"


def seconds(duration: float) -> str:
    """A stretch of time: 20 µs, 3 ms, 1.2 s, 4 min 10 s, 2 h 5 min."""
    if 0 < duration < 0.0005:
        return f"{max(duration * 1e6, 1):.0f} µs"
    if round(duration, 3) < 1:
        return f"{duration * 1000:.0f} ms"
    if round(duration, 1) < 120:
        return f"{duration:.1f} s"
    minutes = int(duration) // 60
    if minutes < 120:
        return f"{minutes} min {int(duration) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number of things: 1 event, 1,204 events."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
