"""The table of outstanding allocations, grouped by what the reader asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kleaktrace.core.address_index import U64, Index, Interner
from kleaktrace.core.events import Context
from kleaktrace.core.kernel_names import KernelNames
from kleaktrace.core.stacks import Stack

Rows = npt.NDArray[Any]


class By(StrEnum):
    """What to group by."""

    STACK = "stack"
    CACHE = "cache"
    COMM = "comm"
    CONTEXT = "context"
    MODULE = "module"


@dataclass(frozen=True, slots=True)
class Group:
    """Outstanding allocations that have the grouping in common.

    `label` names the group; `stack`, `cache`, `context` and `comm` are those of its allocations, several names joined
    by ", ". `oldest_ns` is when the oldest was allocated. `stack_keys` are the call stacks in it.
    """

    label: str
    stack: Stack
    cache: str
    context: str
    comm: str
    count: int
    bytes: int
    oldest_ns: int
    stack_keys: tuple[int, ...]


_MANY = 3
_CONTEXT_NAMES = {int(context): context.name.lower() for context in Context}


def _join(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_MANY]) + (f", … ({len(listed)})" if len(listed) > _MANY else "")


def _comm(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Tally:
    """Outstanding allocations that look the same to a reader, counted; arrays run parallel.

    `rows` are OUTSTANDING rows, one for all that agree with it in stack, cache, kind, context, size and comm.
    """

    rows: Rows
    counts: npt.NDArray[np.intp]
    bytes: npt.NDArray[np.float64]
    oldest_ns: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, numbers: npt.NDArray[np.intp], sizes: U64, times_ns: U64, rows: Callable[[Index], Rows]) -> Tally:
        """Count allocations by their `numbers`, 0, 1, 2, …; `rows` gives the OUTSTANDING rows at some places."""
        kinds = int(numbers.max(initial=-1)) + 1
        one_of = np.empty(kinds, np.intp)
        one_of[numbers] = np.arange(numbers.size)
        oldest = np.full(kinds, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(oldest, numbers, times_ns)
        counts = np.bincount(numbers, minlength=kinds)
        total = np.bincount(numbers, sizes.astype(np.float64), kinds).astype(np.float64)
        return cls(rows(one_of), counts, total, oldest)


def tally(rows: Rows) -> Tally:
    """Count OUTSTANDING rows. `Ledger.tally` counts all there are without taking them out."""
    comm = np.ascontiguousarray(rows["comm"]).view(np.uint64).reshape(-1, 2)
    kind = rows["kind"].astype(np.uint64) << np.uint64(8) | rows["context"]
    numbers = Interner(words=6).intern(
        np.ascontiguousarray(rows["stack"]), rows["cache"], rows["bytes_alloc"], kind, comm[:, 0], comm[:, 1]
    )
    return Tally.of(numbers, rows["bytes_alloc"], rows["time_ns"], lambda places: rows[places])


def group(rows: Rows, names: KernelNames, by: By = By.STACK) -> list[Group]:
    """Group OUTSTANDING rows; the most bytes first."""
    return group_tally(tally(rows), names, by)


def group_tally(counted: Tally, names: KernelNames, by: By = By.STACK) -> list[Group]:
    """Group what was counted; the most bytes first."""
    parts: dict[tuple[object, ...], list[int]] = {}
    label_of = _LABELS[by]
    described = _described(counted.rows, names, with_text=by is By.STACK)
    for number, part in enumerate(described):
        parts.setdefault(label_of(part), []).append(number)
    groups = [
        Group(
            label=str(label[0]),
            stack=described[numbers[0]].stack,
            cache=_join({described[n].cache for n in numbers}),
            context=_join({described[n].context for n in numbers}),
            comm=_join({described[n].comm for n in numbers}),
            count=int(counted.counts[numbers].sum()),
            bytes=int(counted.bytes[numbers].sum()),
            oldest_ns=int(counted.oldest_ns[numbers].min()),
            stack_keys=tuple(sorted({described[n].key for n in numbers})),
        )
        for label, numbers in parts.items()
    ]
    return sorted(groups, key=lambda g: (-g.bytes, -g.count, g.label))


class _Part(NamedTuple):
    """What of a row is shown, in words."""

    key: int
    stack: Stack
    text: str
    cache: str
    context: str
    comm: str


def _described(rows: Rows, names: KernelNames, with_text: bool) -> list[_Part]:
    """The rows in words; without `text` if it is not asked for."""

    @cache
    def stack_of(key: int) -> tuple[Stack, str]:
        stack = names.stacks.get(key)
        return stack, "\n".join(stack.lines()) if with_text else ""

    fields = ("stack", "kind", "cache", "bytes_alloc", "context", "comm")
    parts = []
    for key, kind, slab_cache, size, context, comm in zip(*(rows[name].tolist() for name in fields), strict=True):
        stack, text = stack_of(key)
        known = _CONTEXT_NAMES[context] if context != Context.UNKNOWN else stack.context.name.lower()
        parts.append(_Part(key, stack, text, names.cache(kind, slab_cache, size), known, _comm(comm)))
    return parts


def _module(part: _Part) -> str:
    """The module nearest to the allocation, or the kernel itself."""
    return next((f.module for f in part.stack.frames if f.module and f.module != "bpf"), "(kernel)")


_LABELS: dict[By, Callable[[_Part], tuple[object, ...]]] = {
    By.STACK: lambda part: (part.text, part.cache, part.context),
    By.CACHE: lambda part: (part.cache,),
    By.COMM: lambda part: (part.comm,),
    By.CONTEXT: lambda part: (part.context,),
    By.MODULE: lambda part: (_module(part),),
}
