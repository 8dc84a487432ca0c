# SPDX-License-Identifier: GPL-2.0-or-later
"""The findings of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a check came out. `missing` costs something, `broken` makes tracing impossible."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found, and what to type if that should change."""

    name: str
    health: Health
    found: str
    fix: str = ""
