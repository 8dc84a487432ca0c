# SPDX-License-Identifier: GPL-2.0-or-later
"""Suspects and their evidence in words; what comes from the kernel is as it came, and must be cleaned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from kleaktrace.core.events.records import Context
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.stack_evidence import Siblings
from kleaktrace.core.symbols import skb_heads
from kleaktrace.core.symbols.call_stacks import function_of, requester_line
from kleaktrace.views.terminal import units

_COMMAND = 100
_REASONS = 2

_DEFERRED = {
    "RCU (kfree_rcu, call_rcu)": re.compile(
        r"rcu_core|rcu_do_batch|rcu_cblist_\w+|srcu_invoke_callbacks|kv?free_rcu_(bulk|list|work|monitor)|rcu_free_sheaf\w*"
    ),
    "a work item that frees it": re.compile("process_one_work"),
    "a timer that frees it": re.compile(r"call_timer_fn|__run_timers|expire_timers|__hrtimer_run_queues"),
    "a tasklet that frees it": re.compile("tasklet_action_common"),
}
"""Who free what was left to them: the free itself is theirs, or that of a callback whose last call it is."""


def grouped(suspects: Iterable[JudgedSuspect], first: Sequence[tuple[str, ...]]) -> list[list[JudgedSuspect]]:
    """Suspects with the same stack, source and context together; the `first` stacks in their order, then most bytes."""
    place = {stack: number for number, stack in enumerate(first)}
    groups: dict[tuple[object, ...], list[JudgedSuspect]] = {}
    for suspect in suspects:
        groups.setdefault((suspect.stack, suspect.source, suspect.context, suspect.comm), []).append(suspect)
    return sorted(
        groups.values(), key=lambda group: (place.get(group[0].stack, len(place)), -sum(s.size for s in group))
    )


def missed_free(suspect: JudgedSuspect) -> Iterator[str]:
    """Where to look for a leak whose siblings are freed."""
    line = requester_line(suspect.stack)
    sites = [site for site, _ in suspect.siblings.free_sites if "+" in site]
    if suspect.verdict is not Verdict.CONFIRMED or not line or not sites:
        return
    function, freeing = function_of(line), function_of(sites[0])
    deferred = next((whom for whom, functions in _DEFERRED.items() if functions.fullmatch(freeing)), None)
    if skb_heads.came_by_napi(suspect.cache, suspect.stack):
        yield "whoever gets skbs from NAPI: their heads go round in its lists, and another may have had this one last"
    elif deferred is not None:
        yield f"paths after {function} that do not leave it to {deferred}"
    elif function != freeing:
        yield f"paths after {function} that do not reach the free in {freeing}"
    else:
        asked, freed = (place.partition("/")[0] for place in (line, sites[0]))
        yield f"paths after {asked} that do not reach the free at {freed}"


def why_kept(reasons: Iterable[str]) -> str:
    """The reasons why some are kept on purpose, each once, the most frequent first, and only so many."""
    most = [reason for reason, _ in Counter(reasons).most_common()]
    return "; ".join(most[:_REASONS]) + ("; …" if len(most) > _REASONS else "")


def what(group: Sequence[JudgedSuspect]) -> str:
    """How many, how large, out of which cache, and where the first is."""
    first = group[0]
    times = f"{len(group)} × " if len(group) > 1 else ""
    sizes = sorted({s.size for s in group})
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"
    asked = ""
    if first.bytes_req is not None and len({s.bytes_req for s in group}) == 1 and first.bytes_req != first.size:
        asked = f" ({first.bytes_req} asked for)"
    cache = f" from {first.cache}" if first.cache else ""
    return f"{times}{size} bytes{asked}{cache} at {first.address:#x}{' …' if len(group) > 1 else ''}"


def who(suspect: JudgedSuspect) -> str:
    """The task or interrupt that allocated it, and on which task the interrupt came upon."""
    if suspect.context is Context.TASK:
        command = " ".join(suspect.arguments)
        if len(command) > _COMMAND:
            command = f"{command[:_COMMAND]}…"
        return f"{suspect.comm} (pid {suspect.pid}{f': {command}' if command else ''})"
    context = suspect.context.name.lower()
    return context if suspect.comm in ("hardirq", "softirq") else f"{context} on {suspect.comm} ({suspect.pid})"


def ages(group: Sequence[JudgedSuspect]) -> str:
    """How old they are."""
    youngest, oldest = min(s.age_s for s in group), max(s.age_s for s in group)
    if oldest - youngest < 0.5:
        return units.seconds(oldest)
    return f"{units.seconds(youngest)} to {units.seconds(oldest)}"


def sibling_words(siblings: Siblings) -> str:
    """What became of all that came from one call stack."""
    words = f"same call stack: {siblings.freed:,} of {siblings.allocated:,} freed"
    if siblings.free_sites:
        site, count = siblings.free_sites[0]
        where = f", {count:,} of them" if count != siblings.freed else ""
        words += f"{where} at {site}"
    if siblings.median_lifetime_s is not None:
        words += f", median after {units.seconds(siblings.median_lifetime_s)}"
    return f"{words}; {siblings.outstanding:,} outstanding ({units.size(siblings.outstanding_bytes)})"
