# SPDX-License-Identifier: GPL-2.0-or-later
"""What kmemleak lists: which name space an address is of."""

from __future__ import annotations

from enum import StrEnum


class SuspectKind(StrEnum):
    """Of an object. The values are part of JSON documents."""

    SLAB = "slab"
    """Any ordinary address, vmalloc included."""
    PERCPU = "percpu"
    """A per-CPU offset."""
    PHYS = "phys"
    """A physical address."""
