# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that are outstanding, by events, and gone, by the machine's counters, and that no verdict says anything of.

kmemleak is not there to say whether something still points to them. So what is left of them, beyond what comes and
goes, is in the way of "clean"; who asked for it is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from kleaktrace.core.events.records import Kind
from kleaktrace.core.ledger.tally import Tally
from kleaktrace.core.machine.unexplained_memory import MissingMemory, Unexplained
from kleaktrace.core.symbols.call_stacks import Stack, Stacks

_LEAST = 1 << 20
"""Bytes. Less than that comes and goes, wherever it is."""

_NAMED = 3
_WORTH_NAMING = 0.1
"""So much of it somebody must have to be named."""


def unjudged_pages(
    missing: Sequence[Unexplained], outstanding: Tally, stacks: Stacks, judged: Collection[tuple[str, ...]]
) -> list[Unexplained]:
    """What is missing, but of traced pages only those of other call stacks than the `judged` ones; who asked for them.

    judged: frames as text, innermost first, of what is convicted, or is told of because it grows.
    """
    found = [one for one in missing if one.name is not MissingMemory.TRACED_PAGES]
    traced = next((one for one in missing if one.name is MissingMemory.TRACED_PAGES), None)
    if traced is None:
        return found
    pages = outstanding.rows["kind"] == Kind.PAGES
    left: Counter[str] = Counter()
    for key, size in zip(outstanding.rows["stack"][pages].tolist(), outstanding.bytes[pages].tolist(), strict=True):
        stack = stacks.get(key)
        if tuple(stack.lines()) not in judged:
            left[_who(stack)] += int(size)
    rest = min(traced.bytes, left.total())
    if rest > _LEAST:
        most = [(who, size) for who, size in left.most_common(_NAMED) if size >= _WORTH_NAMING * rest]
        found.append(replace(traced, bytes=rest, sites=tuple(most)))
    return found


def _who(stack: Stack) -> str:
    frame = stack.requester
    if frame is None or frame.name is None:
        return "unknown code"
    return frame.title
