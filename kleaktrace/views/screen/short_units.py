# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers in a few characters, for narrow columns."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float) -> str:
    """Bytes in at most six characters: 129, 4.0K, 1.2M; negative for what was given back."""
    sign, count = ("-", -count) if count < 0 else ("", count)
    if round(count) < 1024:
        return f"{sign}{count:.0f}"
    for unit in "KMG":
        count /= 1024
        if round(count, 1) < 1024:
            return f"{sign}{count:.1f}{unit}" if count < 99.95 else f"{sign}{count:.0f}{unit}"
    return f"{sign}{count / 1024:.1f}T"


def number(count: int) -> str:
    """A count in at most seven characters: 999,999, 1.2M."""
    if count < 1_000_000:
        return f"{count:,}"
    return f"{count / 1e6:.1f}M" if count < 1e9 else f"{count / 1e9:.1f}G"


def age(seconds: float) -> str:
    """A stretch of time in at most six characters: 0.3s, 59s, 4m10s, 2h05m, 3d04h."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h" if whole < 100 * _DAY else f"{whole // _DAY}d"
