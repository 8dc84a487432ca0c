# SPDX-License-Identifier: GPL-2.0-or-later
"""What leaked objects are: which of them are the causes, what hangs on those, and what they hold, read for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import Index
from kleaktrace.core.events.coverage import Coverage
from kleaktrace.core.events.records import Kind, Rows, hide
from kleaktrace.core.evidence.evidence import JudgedSuspect, SuspectSource, Verdict, keys_of_judged
from kleaktrace.core.evidence.rounds import RoundSeries
from kleaktrace.core.kept_on_purpose import without_kept
from kleaktrace.core.leaked_objects.contents import facts
from kleaktrace.core.leaked_objects.overwritten_pointers import overwritten_pointer
from kleaktrace.core.leaked_objects.pointer_graph import Descriptions, object_graph
from kleaktrace.core.leaked_objects.root_groups import RootGroup, root_groups
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.outstanding_table import keys_of
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.kernel_names import KernelNames

MOST_OBJECTS = 4096
"""So many are looked into; it takes memory as the square of their number."""

_LOOKED_INTO = 8
"""Objects of one call stack whose contents are read for people."""

_NODES, _MAKES_NODES = "kernfs_node_cache", "__kernfs_new_node"
"""A node of kernfs only describes a kobject, and comes with its name (fs/kernfs/dir.c)."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class ObjectContents:
    """What objects held, by hidden address: the complements of their words; and whether that can be seen at all."""

    words: Mapping[int, Words]
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class NamedStack:
    """A call stack in words, and who asked."""

    lines: tuple[str, ...]
    requester: str


@dataclass(frozen=True, slots=True)
class Cause:
    """The leaked objects of one call stack that hang on nobody, and in `group` what hangs on them.

    held: the call stacks of what hangs on them, by key, in words.
    """

    stack: tuple[str, ...]
    group: RootGroup
    held: Mapping[int, NamedStack]

    def requester(self, stack: int) -> str:
        """Who asked for what hangs on them, by the key of its call stack."""
        return self.held[stack].requester


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Of the leaked objects: the causes, those with most bytes first; and what there is to say of a call stack."""

    causes: tuple[Cause, ...] = ()
    notes: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()
    """(call stack, what its objects hold or how they were lost)."""

    def cause(self, stack: tuple[str, ...]) -> Cause | None:
        """What hangs on the objects of a call stack; None: all of them hang on others, or they were not looked into."""
        return next((cause for cause in self.causes if cause.stack == stack), None)

    def holder(self, stack: tuple[str, ...]) -> Cause | None:
        """On what the objects of a call stack hang, most of them; None: on nothing."""
        holding = [
            (held.count, number)
            for number, cause in enumerate(self.causes)
            for held in cause.group.held_stacks
            if cause.held[held.stack].lines == stack
        ]
        return self.causes[max(holding)[1]] if holding else None

    def notes_on(self, stack: tuple[str, ...]) -> tuple[str, ...]:
        """What there is to say of the objects of a call stack."""
        return next((notes for of_stack, notes in self.notes if of_stack == stack), ())


def leaked_rows(ledger: Ledger, suspects: Sequence[JudgedSuspect], names: KernelNames) -> Rows:
    """The confirmed suspects as OUTSTANDING rows: at most `MOST_OBJECTS`, the oldest; no index nodes, and no pages.

    Pages are not looked into: mostly they hold data, and the kernel does not map all of them.
    """
    leaked = [s for s in suspects if s.verdict is Verdict.CONFIRMED]
    percpu = [s.percpu for s in leaked]
    found, rows = ledger.lookup(np.array([hide(s.address) for s in leaked], np.uint64), np.array(percpu, np.bool_))
    rows = without_kept(rows[found & (rows["kind"] != Kind.PAGES)], names, but_cached=True)
    oldest: Rows = rows[np.argsort(rows["time_ns"], kind="stable")[:MOST_OBJECTS]]
    return oldest


def referenced_rows(rows: Rows, suspects: Sequence[JudgedSuspect]) -> npt.NDArray[np.bool_]:
    """Which of the leaked objects kmemleak knows and does not list, nor any other of their call stacks."""
    is_listed = np.isin(keys_of(rows), keys_of_judged([s for s in suspects if s.source == SuspectSource.KMEMLEAK]))
    unlisted: npt.NDArray[np.bool_] = ~np.isin(rows["stack"], rows["stack"][is_listed]) & (rows["kind"] != Kind.PERCPU)
    return unlisted


def anatomy(
    rows: Rows,
    words: Sequence[Words],
    names: KernelNames,
    function_at: Callable[[int], str | None],
    overwritten: Callable[[int, Rows], str],
    referenced: npt.NDArray[np.bool_] | None = None,
) -> Anatomy:
    """Look into leaked objects: `rows` are OUTSTANDING, `words` what each holds, complemented; empty if unknown.

    function_at: the name of the function that begins at an address. overwritten: what tells that a pointer to the
    objects of a call stack was overwritten. referenced: see `object_graph`.
    """
    graph = object_graph(
        rows, words, _descriptions(rows, names), _code_until(rows, names), referenced, _kinds(rows, names)
    )
    groups = root_groups(rows, graph)
    notes = []
    for key in np.unique(rows["stack"]).tolist():
        numbers = np.flatnonzero(rows["stack"] == key)
        of_slab = rows["kind"][numbers[0]] in (Kind.KMALLOC, Kind.CACHE)
        said = [
            overwritten(key, rows[numbers]),
            *_common_facts([words[n] for n in numbers[:_LOOKED_INTO]], function_at, of_slab),
        ]
        lines = tuple(names.stacks.get(key).lines())
        if any(said) and lines:
            notes.append((lines, tuple(filter(None, said))))
    return Anatomy(tuple(_cause(group, names) for group in groups), tuple(notes))


def _kinds(rows: Rows, names: KernelNames) -> Index:
    """Which are of one kind, by number: asked for in the same place, and with the same size, whoever called for it."""
    keys = np.unique(rows["stack"]).tolist()
    places = {key: _place(names.stacks.get(key)) or key for key in keys}
    columns = (rows[name].tolist() for name in ("stack", "kind", "cache", "bytes_req"))
    numbers: dict[tuple[object, ...], int] = {}
    kinds = [
        numbers.setdefault((places[stack], *others), len(numbers)) for stack, *others in zip(*columns, strict=True)
    ]
    return np.array(kinds, np.intp)


def _place(stack: Stack) -> tuple[str, ...]:
    """The frames from the allocation to who asked for it, in words; none: nobody is known to have."""
    own, requester = stack.own_frames, stack.requester
    return () if requester is None else tuple(map(str, own[: own.index(requester) + 1]))


def _descriptions(rows: Rows, names: KernelNames) -> Descriptions:
    columns = (rows[name].tolist() for name in ("kind", "cache", "bytes_alloc"))
    nodes = np.array([names.cache(*row) == _NODES for row in zip(*columns, strict=True)], np.bool_)
    stacks = [names.stacks.get(key) for key in rows["stack"].tolist()]
    made = np.array([any(frame.name == _MAKES_NODES for frame in stack.frames) for stack in stacks], np.bool_)
    return Descriptions(nodes, made & ~nodes)


def _code_until(rows: Rows, names: KernelNames) -> npt.NDArray[np.uint64]:
    """Of each object when (ns) the module went whose own code asked for it; at the end of time if none has."""
    until = np.full(rows.size, ~np.uint64(0))
    for number, (key, time_ns) in enumerate(zip(rows["stack"].tolist(), rows["time_ns"].tolist(), strict=True)):
        owner = names.stacks.get(key).owner
        gone_ns = names.symbols.unloaded_after(owner.module, time_ns) if owner and owner.module else None
        if gone_ns is not None:
            until[number] = gone_ns
    return until


def _common_facts(several: Sequence[Words], function_at: Callable[[int], str | None], of_slab: bool) -> list[str]:
    """What the first of the objects tells, with how many of those looked at tell the same."""
    told = [facts(words, function_at, of_slab=of_slab) for words in several]
    first = told[0] if told else ()
    return [
        fact if len(told) == 1 else f"{fact} ({_of(sum(fact in each for each in told), len(told))})" for fact in first
    ]


def _of(count: int, total: int) -> str:
    return f"all {total} looked at" if count == total else f"{count} of {total} looked at"


def _cause(group: RootGroup, names: KernelNames) -> Cause:
    stacks = {held.stack: names.stacks.get(held.stack) for held in group.held_stacks}
    held = {key: NamedStack(tuple(stack.lines()), _requester(stack)) for key, stack in stacks.items()}
    return Cause(tuple(names.stacks.get(group.stack).lines()), group, held)


def _requester(stack: Stack) -> str:
    frame = stack.requester
    return frame.name if frame is not None and frame.name else "an unnamed function"


def overwritten_words(
    ledger: Ledger, series: Sequence[RoundSeries], start_ns: int, end_ns: int
) -> Callable[[int, Rows], str]:
    """Tell by its signature that a pointer was overwritten, in rounds if there are any, else from start to end."""
    bounds = [one.edges for one in series if one.count > 1] or [(start_ns, end_ns)]

    def words(stack: int, leaked: Rows) -> str:
        (statistics,), (freed,) = ledger.stack_statistics([stack]), ledger.freed_samples([stack])
        if not freed.size or statistics.frees + statistics.implied_frees != freed.size:
            return ""  # what is not known may speak against it
        found = (overwritten_pointer(leaked["time_ns"], freed["time_ns"], edges) for edges in bounds)
        return next((str(one) for one in found if one), "")

    return words
