# SPDX-License-Identifier: GPL-2.0-or-later
"""What modules left behind that kmemleak may have overlooked: of each slab cache, the latest objects (since v7.0).

Where a CPU took them from there are still pointers to them (mm/slub.c, `struct slab_sheaf`), and kmemleak takes those
for references. Nobody else says anything of such objects, unless rounds or unloading do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kleaktrace.core.events.records import Kind, Rows, hide
from kleaktrace.core.evidence.evidence import Evidence, JudgedSuspect
from kleaktrace.core.symbols.call_stacks import requester_words
from kleaktrace.core.symbols.kernel_names import KernelNames

_NAMED = 5


def unjudged_rows(evidence: Evidence, suspects: Sequence[JudgedSuspect]) -> Rows:
    """OUTSTANDING rows of slab caches that are modules' own memory, and no suspects."""
    rows = evidence.ledger.outstanding()
    rows = rows[rows["kind"] == Kind.CACHE]
    judged = np.array([hide(suspect.address) for suspect in suspects if not suspect.percpu], np.uint64)
    rows = rows[~np.isin(rows["object"], judged)]
    keys = np.unique(rows["stack"])
    of_modules = [key for key in keys.tolist() if _is_of_module(evidence.names, key)]
    unjudged: Rows = rows[np.isin(rows["stack"], np.array(of_modules, np.uint64))]
    return unjudged


def _is_of_module(names: KernelNames, stack: int) -> bool:
    owner = names.stacks.get(stack).owner
    return owner is not None and bool(owner.module)


def overlooked(rows: Rows, names: KernelNames) -> list[str]:
    """Why the evidence is incomplete: a line for each cache and requester of these rows, the most objects first."""
    counted: Counter[tuple[str, str]] = Counter()
    for stack, cache in zip(rows["stack"].tolist(), rows["cache"].tolist(), strict=True):
        counted[names.cache(Kind.CACHE, cache, 0), requester_words(names.stacks.get(stack).lines())] += 1
    lines = [_line(*of_what, objects) for of_what, objects in counted.most_common(_NAMED)]
    rest = len(counted) - len(lines)
    return [*lines, f"the same of {rest} others"] if rest else lines


def _line(cache: str, requester: str, objects: int) -> str:
    what = "object" if objects == 1 else "objects"
    return (
        f"kmemleak may overlook {objects} {what} of {cache}, asked for by {requester}: a CPU's sheaf of that cache "
        f"points there still; `run --repeat` may tell, or boot with slab_debug=F,{cache}"
    )
