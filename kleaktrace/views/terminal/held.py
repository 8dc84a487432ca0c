# SPDX-License-Identifier: GPL-2.0-or-later
"""What hangs on leaked objects, in words."""

from __future__ import annotations

from collections.abc import Callable

from kleaktrace.core.leaked_objects.root_groups import RootGroup
from kleaktrace.views.terminal.units import size

_NAMED = 3
"""Call stacks told by name."""


def held_words(group: RootGroup, requester: Callable[[int], str]) -> str:
    """Say what hangs on a group of roots: `with each 9 more (1.2 KiB): 9 by kobject_init`; "" if nothing does.

    Numbers are those of one root if each has as many, else of all. `requester` names a call stack by its key.
    """
    if not group.held:
        return ""
    count = len(group.roots)
    if count == 1:
        words = f"with it {group.held:,} more ({size(group.held_bytes)})"
    elif group.fewest == group.most:
        words = f"with each {group.most:,} more ({size(group.held_bytes / count)})"
    else:
        words = f"with them {group.held:,} more ({size(group.held_bytes)}), {group.fewest:,} to {group.most:,} with one"
    return f"{words}: {_by_requester(group, requester)}"


def _by_requester(group: RootGroup, requester: Callable[[int], str]) -> str:
    counts: dict[str, int] = {}
    for held in group.held_stacks:
        name = requester(held.stack)
        counts[name] = counts.get(name, 0) + held.count
    start = ""
    if group.fewest == group.most:
        if any(count % len(group.roots) for count in counts.values()):
            start = "in all "
        else:
            counts = {name: count // len(group.roots) for name, count in counts.items()}
    most = sorted(counts.items(), key=lambda named: (-named[1], named[0]))
    words = [f"{count:,} by {name}" for name, count in most[:_NAMED]]
    rest = sum(count for _, count in most[_NAMED:])
    return start + ", ".join([*words, f"{rest:,} by others"] if rest else words)
