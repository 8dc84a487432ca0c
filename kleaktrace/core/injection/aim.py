# SPDX-License-Identifier: GPL-2.0-or-later
"""Which allocation a run is to make fail."""

from __future__ import annotations

from enum import Enum


class Aim(Enum):
    """What a run is to make fail."""

    NOTHING = "nothing; what could fail is noted"
    NEXT = "the first allocation whose call stack has not failed yet"
    CHOSEN = "the first allocation of one call stack"
    NUMBER = "the allocation of one number"
