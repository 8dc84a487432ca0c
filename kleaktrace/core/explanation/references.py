# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds which suspects of a text point to others of it: what is lost with its owner is mended with its owner.

kmemleak lists both, for nothing that is referenced itself points to them (mm/kmemleak.c, `scan_gray_list`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kleaktrace.core.kmemleak.kmemleak_text import Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

_MOST_BYTES = 64
"""So much of an object is looked at; kmemleak prints 32 bytes (HEX_MAX_LINES, mm/kmemleak.c)."""
_LEAST_ADDRESS = 1 << 16
"""What is smaller is more often a number."""
_MOST_SHORT = (1 << 32) - 1
_Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class References:
    """Whom the suspect at each address points to, itself apart: addresses where others begin, lowest first."""

    targets: Mapping[int, tuple[int, ...]]

    @cached_property
    def sources(self) -> Mapping[int, tuple[int, ...]]:
        """Who points to the suspect at each address."""
        found: dict[int, list[int]] = {}
        for source, targets in self.targets.items():
            for target in targets:
                found.setdefault(target, []).append(source)
        return {target: tuple(sorted(sources)) for target, sources in found.items()}


def references(suspects: Sequence[Suspect]) -> References:
    """Look for addresses of suspects, or within them, in what is printed of the contents of others.

    Nobody tells the byte order of the machine, nor how long its words are: all are tried, and addresses are long enough
    to be no coincidence.
    """
    by_address = sorted(
        (one.address, one.size) for one in suspects if one.kind != SuspectKind.PHYS and one.address >= _LEAST_ADDRESS
    )
    holders = [one for one in suspects if any(one.contents)] if len(by_address) > 1 else []
    if not holders:
        return References({})
    starts = np.array([address for address, _ in by_address], np.uint64)
    sizes = np.array([size for _, size in by_address], np.uint64)
    data = b"".join(one.contents[:_MOST_BYTES].ljust(_MOST_BYTES, b"\0") for one in holders)
    found: dict[int, set[int]] = {}
    forms = ("<u8", ">u8") if by_address[-1][0] > _MOST_SHORT else ()
    for form in (*forms, *(("<u4", ">u4") if by_address[0][0] <= _MOST_SHORT else ())):
        words = np.frombuffer(data, form).astype(np.uint64)
        for place, target in _matches(words, starts, sizes):
            holder = holders[place * len(holders) // words.size].address
            if holder != target:
                found.setdefault(holder, set()).add(target)
    return References({holder: tuple(sorted(targets)) for holder, targets in found.items()})


def _matches(words: _Words, starts: _Words, sizes: _Words) -> Iterator[tuple[int, int]]:
    """Which words are addresses of objects: the index of each, and where its object begins."""
    at = np.searchsorted(starts, words, "right") - 1
    inside = (at >= 0) & (words - starts[at] < np.maximum(sizes[at], 1))
    for place in np.flatnonzero(inside).tolist():
        yield place, int(starts[at[place]])
