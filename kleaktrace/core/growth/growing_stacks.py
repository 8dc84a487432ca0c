# SPDX-License-Identifier: GPL-2.0-or-later
"""Growing stacks as people know them: by name, and each once however many ways lead to it.

An interrupt comes upon anything, so what one handler allocates has a hundred stacks that differ only in what
was interrupted. For growth they are one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.events.loss import LossWindow
from kleaktrace.core.events.records import Context, Rows, may_be_task
from kleaktrace.core.grouping.outstanding_groups import as_one
from kleaktrace.core.growth.detection import MIN_SURVIVORS, Growing, GrowthEvidence, grown_at_once
from kleaktrace.core.kept_on_purpose import Rule, is_bookkeeping, rule_for_row
from kleaktrace.core.ledger.ledger import Ledger, Survivors
from kleaktrace.core.ledger.stack_counters import LIFETIME_BINS
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import Frame

_SET_UP = frozenset({"do_one_initcall", "really_probe", "driver_probe_device"})
"""Below these, modules and their drivers set up what they need once (init/main.c, drivers/base/dd.c)."""


@dataclass(frozen=True, slots=True)
class GrowingStack:
    """A call stack whose outstanding set keeps growing: `core.growth.detection.Growing`, named.

    `frames` are the stack's own, innermost first. An interrupt has no `comm`: it comes upon anybody. `listed` is how
    many objects of it kmemleak lists; None: kmemleak was not asked. `kept` says why it is kept on purpose; empty:
    nothing explains it.
    """

    frames: tuple[Frame, ...]
    growing: Growing
    context: str
    comm: str
    cache: str
    listed: int | None = None
    kept: str = ""

    def lines(self) -> list[str]:
        """The frames as text, in the form of the kernel's own traces."""
        return [str(frame) for frame in self.frames]


class StackDeduplicator:
    """Which stack keys are the same stack by name; keys are those of one ledger, which keeps them in place.

    Memory: that of the own frames of each distinct stack, and 16 bytes a key.
    """

    def __init__(self, stack: Callable[[int], Stack]) -> None:
        self._stack = stack
        self._number_of_name: dict[tuple[object, ...], int] = {}
        self._keys = np.zeros(0, np.uint64)
        self._numbers = np.zeros(0, np.intp)

    def keys_of_same_stack(self, key: int) -> U64:
        """All keys known of the stack that this key is one of."""
        alike = self._numbers == self._numbers[self._keys == key].max(initial=-1)
        keys: U64 = self._keys[alike]
        return keys

    def numbers(self, keys: U64) -> Index:
        """Number the stacks behind the keys, the same for the same own frames. Later keys only follow earlier ones."""
        known = self._numbers.size
        fresh = [self._number(key) for key in keys[known:].tolist()]
        self._numbers = np.concatenate([self._numbers, np.array(fresh, np.intp)])
        self._keys = np.concatenate([self._keys, keys[known:]])
        return self._numbers[: keys.size]

    def _number(self, key: int) -> int:
        # One of which no name is known is only the same as itself.
        stack = self._stack(key)
        frames = tuple((f.name, f.offset, f.module) if f.name else f.address for f in stack.own_frames)
        named = (*(frames or (key,)), stack.below_machinery)
        return self._number_of_name.setdefault(named, len(self._number_of_name))


def of_books(ledger: Ledger, names: KernelNames) -> frozenset[int]:
    """Keys of the stacks by which vmalloc and the per-CPU allocator describe what they give out, which tells by itself.

    Who asks for memory of vmalloc has the same stack by name as the books of it, but not the same key.
    """
    inside = [key for key in ledger.snapshot().stacks.tolist() if names.stacks.get(key).below_machinery]
    rows = ledger.outstanding(inside)
    kinds = np.unique(rows[["kind", "stack"]]).tolist()
    given_out = {key for kind, key in kinds if not is_bookkeeping(kind, names.stacks.get(key))}
    return frozenset(inside) - given_out


def growth_evidence(
    ledger: Ledger,
    same: StackDeduplicator,
    start_ns: int,
    now_ns: int,
    until_ns: int | None = None,
    without: frozenset[int] = frozenset(),
) -> GrowthEvidence:
    """Copy what is needed out of the ledger; tracing began at `start_ns`. Some 50 ns for each outstanding allocation.

    without: keys of stacks that are left out.

    What is the same stack by name counts as one, under the first one's key. A lost free makes a survivor of what has
    died: of a session with losses, only what was allocated after the last one counts; leak fractions then are too
    small, since frees from before do count. A few lost events don't make it forget what was before: each counts, for
    every stack, as a free that was missed.
    """
    origin_ns, lost = _origin(ledger.losses, start_ns)
    snapshot = ledger.snapshot()
    numbers = same.numbers(snapshot.stacks)
    wanted = ~np.isin(snapshot.stacks, np.array(sorted(without), np.uint64))
    first, numbers = np.unique(numbers, return_index=True, return_inverse=True)[1:]
    totals = np.bincount(numbers, np.where(wanted, snapshot.outstanding, 0).astype(np.float64), first.size)
    # Stack 0 is everything of which no stack could be taken: no one place in the code.
    chosen = np.flatnonzero((totals >= MIN_SURVIVORS) & (snapshot.stacks[first] != 0))
    group_of = np.full(first.size, -1, np.intp)
    group_of[chosen] = np.arange(chosen.size)
    of_stack = group_of[numbers]
    members = np.flatnonzero((of_stack >= 0) & wanted)
    groups = of_stack[members].astype(np.int32)

    def summed(counts: U64) -> U64:
        sums = np.zeros((chosen.size, *counts.shape[1:]), np.uint64)
        np.add.at(sums, groups, counts)
        return sums

    stacks = snapshot.stacks[members]
    survivors = ledger.survivors(stacks)
    lifetimes = ledger.lifetime_counts(stacks) if stacks.size else np.zeros((0, LIFETIME_BINS), np.uint64)
    return GrowthEvidence(
        origin_ns=origin_ns,
        now_ns=now_ns,
        stacks=snapshot.stacks[first[chosen]],
        outstanding=summed(snapshot.outstanding[members]),
        outstanding_bytes=summed(snapshot.outstanding_bytes[members]),
        implied_frees=summed(snapshot.implied_frees[members]) + np.uint64(lost),
        lifetime_counts=summed(lifetimes),
        survivors=Survivors(groups[survivors.stack_index], survivors.time_ns, survivors.bytes),
        until_ns=until_ns,
    )


@dataclass(frozen=True, slots=True)
class ModuleBirths:
    """When modules allocated (ns, CLOCK_MONOTONIC), as far as that is still known.

    Known are the births of what is outstanding and of the samples of what was freed.
    """

    by_module: dict[str, U64]
    """Ascending."""
    last_of_stack: dict[int, int]

    def within(self, module: str, from_ns: int, to_ns: int) -> U64:
        """Those of a module in this time, both ends included."""
        births = self.by_module[module]
        first, last = np.searchsorted(births, np.array([from_ns, to_ns + 1], np.uint64))
        return births[first:last]


def module_births(ledger: Ledger, names: KernelNames) -> ModuleBirths:
    """Copy them out of the ledger."""
    keys = ledger.snapshot().stacks
    modules = [names.stacks.get(key).modules for key in keys.tolist()]
    through = np.array([bool(own) for own in modules], np.bool_)
    keys = keys[through]
    survivors = ledger.survivors(keys)
    freed = ledger.freed_samples(keys.tolist())
    of_module: dict[str, list[U64]] = {}
    last_of_stack: dict[int, int] = {}
    for number, (key, own) in enumerate(zip(keys.tolist(), (own for own in modules if own), strict=True)):
        births = np.concatenate([survivors.time_ns[survivors.stack_index == number], freed[number]["time_ns"]])
        if births.size:
            last_of_stack[key] = int(births.max())
            for module in own:
                of_module.setdefault(module, []).append(births)
    return ModuleBirths({name: np.sort(np.concatenate(parts)) for name, parts in of_module.items()}, last_of_stack)


def bursts(
    evidence: GrowthEvidence,
    births: ModuleBirths,
    names: KernelNames,
    same: StackDeduplicator,
    windows: Sequence[tuple[int, int]],
) -> list[Growing]:
    """What grew for as long as its module did anything in one of the windows, though that went on after it.

    Nobody can say that it has levelled off: it was not asked for any more, not in a later window either. What a module
    sets up when it is loaded or finds its device is not meant.
    """
    stacks = [names.stacks.get(key) for key in evidence.stacks.tolist()]
    in_use = [bool(stack.modules) and not any(frame.name in _SET_UP for frame in stack.frames) for stack in stacks]
    evidence = evidence.only(np.array(in_use, np.bool_))
    found: dict[int, Growing] = {}
    for number, key in enumerate(evidence.stacks.tolist()):
        of_stack = evidence.only(np.arange(evidence.stacks.size) == number)
        asked_ns = max(births.last_of_stack.get(alike, 0) for alike in same.keys_of_same_stack(key).tolist())
        for module, (from_ns, to_ns) in product(names.stacks.get(key).modules, windows):
            active = births.within(module, from_ns, to_ns)
            if active.size >= MIN_SURVIVORS and asked_ns <= active[-1]:
                during = replace(of_stack, origin_ns=int(active[0]), until_ns=int(active[-1]))
                for one in grown_at_once(during):
                    found.setdefault(key, one)
    return list(found.values())


def _origin(losses: Sequence[LossWindow], start_ns: int) -> tuple[int, int]:
    """Since when no more than a few events were lost, and how many those are."""
    lost = 0
    for loss in reversed(losses):
        if lost + loss.all_frees > MIN_SURVIVORS:
            return max(start_ns, loss.to_ns), lost
        lost += loss.all_frees
    return start_ns, lost


def named_growing(
    found: Sequence[Growing],
    same: StackDeduplicator,
    outstanding: Rows,
    names: KernelNames,
    listed: Sequence[Sequence[str]] | None = None,
    alive: frozenset[int] = frozenset(),
    processors: int = 0,
) -> list[GrowingStack]:
    """Name growing stacks. `outstanding` are all OUTSTANDING rows, `listed` the call stacks of what kmemleak lists.

    alive: processes (tgid) of user space that may well hold what they allocated by core code alone.
    """
    result = []
    for one in found:
        frames = names.stacks.get(one.stack).own_frames
        lines = [str(frame) for frame in frames]
        rows = outstanding[np.isin(outstanding["stack"], same.keys_of_same_stack(one.stack))]
        whole = as_one(rows, names)
        result.append(
            GrowingStack(
                frames=frames,
                growing=one,
                context=whole.context if whole else "",
                comm=whole.comm if whole and whole.contexts == {Context.TASK} else "",
                cache=whole.cache if whole else "",
                kept=kept_words(rows, names, processors) or held_words(rows, names.stacks.get(one.stack), alive),
                listed=None if listed is None else sum(list(stack[: len(lines)]) == lines for stack in listed),
            )
        )
    return result


def kept_words(rows: Rows, names: KernelNames, processors: int) -> str:
    """Why all these are kept on purpose; empty: not all of them are. `processors` as of `Evidence`."""
    kinds, numbers = np.unique(rows[["kind", "cache", "bytes_alloc", "stack", "gfp_flags"]], return_counts=True)
    objects: Counter[Rule | None] = Counter()
    for kind, number in zip(kinds.tolist(), numbers.tolist(), strict=True):
        objects[rule_for_row(names, *kind)] += number
    if not all(rule and rule.keeps(number, processors) for rule, number in objects.items()):
        return ""
    return "; ".join(sorted(rule.reason for rule in objects if rule))


def held_words(rows: Rows, stack: Stack, alive: frozenset[int]) -> str:
    """Whether, but for a few, these were allocated by processes that live on, through no module; and so in words."""
    if stack.modules or not alive:
        return ""
    in_task = may_be_task(rows)
    by_others = ~(in_task & np.isin(rows["tgid"], np.array(sorted(alive), np.uint32)))
    return "" if np.count_nonzero(by_others) >= MIN_SURVIVORS else "processes that live on may hold it"
