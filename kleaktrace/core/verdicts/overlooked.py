# SPDX-License-Identifier: GPL-2.0-or-later
"""What modules left behind that kmemleak may have overlooked, and that neither rounds nor unloading speak of.

Of each slab cache these are the latest objects, since v7.0: where a CPU took them from there are still pointers to them
(mm/slub.c, `struct slab_sheaf`), and kmemleak takes those for references. Before v6.12, it is all per-CPU memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import Kind, Rows
from kleaktrace.core.evidence.evidence import Evidence, JudgedSuspect, keys_of_judged
from kleaktrace.core.evidence.stack_evidence import StackEvidence
from kleaktrace.core.kept_on_purpose import without_kept
from kleaktrace.core.ledger.outstanding_table import keys_of
from kleaktrace.core.repetition.repeated_stacks import RepeatedStacks
from kleaktrace.core.symbols.call_stacks import requester_words
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.requesters import makes_packets

_NAMED = 5
_SHEAF = "a CPU's sheaf of that cache points there still; try --repeat, or boot with slab_debug=F"
_PERCPU = "whether anything points there it does not tell; try --repeat, or unload the module before the end"
_LISTS_PERCPU = "pointer_update_refs"
"""A function of mm/kmemleak.c that is there since it lists per-CPU memory (v6.12, 6c99d4eb7c5e)."""
_LISTED_FROM_NS = 5 * 10**9
"""kmemleak lists nothing that is younger (mm/kmemleak.c, MSECS_MIN_AGE)."""


def overlooked(
    evidence: Evidence, suspects: Sequence[JudgedSuspect], repeated: RepeatedStacks, handed_out: U64 | None
) -> list[str]:
    """Why the evidence is incomplete, if it is: a line for each cache and requester, those with most objects first.

    handed_out: hidden addresses that sheaves point to; None: that can't be read on this kernel, which has sheaves.
    """
    rows = _unjudged(evidence, suspects, repeated)
    per_cpu = rows["kind"] == Kind.PERCPU
    # Before v6.12, whatever per-CPU memory nothing points to, kmemleak does not list it.
    never_listed = _old_enough(evidence, rows[per_cpu & (not evidence.names.symbols.places_of(_LISTS_PERCPU))])
    hidden = ~per_cpu if handed_out is None else ~per_cpu & np.isin(rows["object"], handed_out)
    of_percpu = _lines(evidence, never_listed, "kmemleak of this kernel does not list", _PERCPU)
    return [*_in_sheaves(evidence, _old_enough(evidence, rows[hidden]), handed_out is not None), *of_percpu]


def clearable(rows: Rows, names: KernelNames, handed_out: U64) -> int:
    """How many OUTSTANDING rows are modules' kmallocs and skbs that sheaves point to, which anybody can replace.

    handed_out: as of `overlooked`.
    """
    rows = rows[np.isin(rows["kind"], (Kind.CACHE, Kind.KMALLOC)) & np.isin(rows["object"], handed_out)]
    kinds = zip(rows["stack"].tolist(), (rows["kind"] == Kind.KMALLOC).tolist(), strict=True)
    return sum(_is_of_module(names, key) and (is_kmalloc or _is_packet(names, key)) for key, is_kmalloc in kinds)


def _in_sheaves(evidence: Evidence, rows: Rows, is_read: bool) -> list[str]:
    if is_read or not rows.size:
        return _lines(evidence, rows, "kmemleak may overlook", _SHEAF)
    unread = f"kmemleak may overlook any of {rows.size:,} allocations of modules: what sheaves point to can't be read"
    return [f"{unread}; boot with slab_debug=F"]


def _lines(evidence: Evidence, rows: Rows, begin: str, why: str) -> list[str]:
    names, counted = evidence.names, Counter[tuple[str, str]]()
    fields = (rows[name].tolist() for name in ("kind", "cache", "bytes_alloc", "stack"))
    for kind, cache, size, stack in zip(*fields, strict=True):
        counted[names.cache(kind, cache, size), requester_words(names.stacks.get(stack).lines())] += 1
    lines = [
        f"{begin} {objects} {'object' if objects == 1 else 'objects'} of {of_cache}, asked for by {requester}: {why}"
        for (of_cache, requester), objects in counted.most_common(_NAMED)
    ]
    rest = len(counted) - len(lines)
    return [*lines, f"{begin} what {rest} more asked for in the same way"] if rest else lines


def _unjudged(evidence: Evidence, suspects: Sequence[JudgedSuspect], repeated: RepeatedStacks) -> Rows:
    """OUTSTANDING rows of slab caches and per-CPU memory that are modules' own, and that nobody has said anything of.

    Rounds have said something of stacks of which no more is left with each; and of what is kept on purpose there
    is nothing to be said.
    """
    rows = evidence.ledger.outstanding()
    rows = rows[np.isin(rows["kind"], (Kind.CACHE, Kind.KMALLOC, Kind.PERCPU))]
    rows = rows[~np.isin(keys_of(rows), keys_of_judged(suspects))]
    keys = [key for key in np.unique(rows["stack"]).tolist() if _is_of_module(evidence.names, key)]
    unbounded = np.array([key for key in keys if key not in repeated.bounded], np.uint64)
    return without_kept(rows[np.isin(rows["stack"], unbounded)], evidence.names)


def _is_of_module(names: KernelNames, key: int) -> bool:
    """Whether a module is to free it, or has asked for an skb: others may, but hardly any lives so long."""
    stack = names.stacks.get(key)
    if stack.owner is None or stack.owner.module:
        return stack.owner is not None
    return _is_packet(names, key) and stack.requester is not None and bool(stack.requester.module)


def _is_packet(names: KernelNames, key: int) -> bool:
    owner = names.stacks.get(key).owner
    return owner is not None and makes_packets(owner.name or "")


def _old_enough(evidence: Evidence, rows: Rows) -> Rows:
    """Those that kmemleak could have listed, and that are older than siblings of theirs become that are freed."""
    stacks = np.unique(rows["stack"]).tolist()
    known = StackEvidence(evidence.ledger, evidence.names, evidence.loss, (), set(stacks))
    least = {stack: max(known.of(stack).old_enough_ns, _LISTED_FROM_NS) for stack in stacks}
    ages = evidence.clock.end.time_ns - rows["time_ns"].astype(np.int64)
    old: Rows = rows[ages >= np.array([least[stack] for stack in rows["stack"].tolist()], np.int64)]
    return old
