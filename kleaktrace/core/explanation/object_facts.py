# SPDX-License-Identifier: GPL-2.0-or-later
"""The hex dump of a suspect, read for people, by what reads the contents of confirmed leaks (`leaked_objects`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import numpy as np

from kleaktrace.core.kmemleak.kmemleak_text import Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.leaked_objects.contents import facts

_WORD = 8
_LOOKED_INTO = 8
"""Objects of one call stack whose contents are read."""
_POINTER_BITS, _POINTER_BYTE = 56, 0xFF
"""How addresses begin on the 64-bit, little-endian machines whose words are read: x86-64, arm64, riscv."""
_POISON_FREE = 0x6B
"""POISON_FREE, include/linux/poison.h: SLUB fills what is free with it, if asked by slub_debug."""


def facts_of(suspect: Suspect) -> tuple[str, ...]:
    """Say what the printed bytes of an object tell: names, functions that the report names, poison, lists, counts.

    Nothing but text is read of objects of 32-bit kernels and of those that may be big-endian.
    """
    data = suspect.contents
    words = np.frombuffer(data[: len(data) // _WORD * _WORD], "<u8").astype(np.uint64)
    if not words.size:
        return (f"nothing but zeros in {len(data)} bytes",) if data and not any(data) else ()
    told = facts(~words, _functions(suspect))
    if suspect.address >> _POINTER_BITS != _POINTER_BYTE and suspect.kind != SuspectKind.PERCPU:
        told = tuple(fact for fact in told if fact.startswith(("text", "nothing")))
    if any(data) and data.count(_POISON_FREE) >= _WORD:
        # The same bytes are what SLUB leaves in freed objects: said once, and with both meanings.
        told = (
            *(fact for fact in told if "poison 6b" not in fact),
            "bytes 6b: SLUB's mark of freed memory, not written since it was allocated, or freed already",
        )
    return told


def common_facts(suspects: Sequence[Suspect]) -> tuple[str, ...]:
    """The same of objects with one backtrace: with how many of those looked at tell it, if not all of them do."""
    looked_at = [facts_of(one) for one in islice((each for each in suspects if each.contents), _LOOKED_INTO)]
    counts = Counter(fact for told in looked_at for fact in told)
    total = len(looked_at)
    common = [(fact, count) for fact, count in counts.most_common(6) if count == total or 2 * count > total]
    first = [(fact, 1) for fact in looked_at[0][:3]] if looked_at and not common else []
    return tuple(fact if count == total else f"{fact} ({count} of {total})" for fact, count in common or first)


def _functions(suspect: Suspect) -> Callable[[int], str | None]:
    """Functions by the address where they begin, as far as the backtrace gives addresses in the clear."""
    starts = {
        frame.address - frame.offset: frame.symbol
        for frame in suspect.frames
        if frame.address is not None and frame.offset is not None and frame.symbol
    }
    return partial(_named, starts)


def _named(starts: dict[int, str], address: int) -> str | None:
    return starts.get(address)
