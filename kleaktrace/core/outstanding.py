"""The table of outstanding allocations, grouped by what the reader asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

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


def _join(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_MANY]) + (f", … ({len(listed)})" if len(listed) > _MANY else "")


def _comm(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def group(rows: Rows, names: KernelNames, by: By = By.STACK) -> list[Group]:
    """Group OUTSTANDING rows; the most bytes first."""
    if not rows.size:
        return []
    # First by everything a label can depend on, so that Python sees each combination once and not each allocation.
    columns = ["stack", "cache", "kind", "context", "bytes_alloc", "comm"]
    _, first, inverse = np.unique(_packed(rows, columns), return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    counts = np.bincount(inverse, minlength=first.size)
    sizes = np.bincount(inverse, weights=rows["bytes_alloc"].astype(np.float64), minlength=first.size)
    oldest = np.full(first.size, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(oldest, inverse, rows["time_ns"])
    parts: dict[tuple[object, ...], list[int]] = {}
    label_of = _LABELS[by]
    described = [_describe(rows[index], names) for index in first.tolist()]
    for number, part in enumerate(described):
        parts.setdefault(label_of(part), []).append(number)
    groups = [
        Group(
            label=str(label[0]),
            stack=described[numbers[0]].stack,
            cache=_join({described[n].cache for n in numbers}),
            context=_join({described[n].context for n in numbers}),
            comm=_join({described[n].comm for n in numbers}),
            count=int(counts[numbers].sum()),
            bytes=int(sizes[numbers].sum()),
            oldest_ns=int(oldest[numbers].min()),
            stack_keys=tuple(sorted({described[n].key for n in numbers})),
        )
        for label, numbers in parts.items()
    ]
    return sorted(groups, key=lambda g: (-g.bytes, -g.count, g.label))


def _packed(rows: Rows, columns: list[str]) -> npt.NDArray[Any]:
    """The columns as one opaque value per row, which sorts faster than a structure does."""
    packed = np.zeros(rows.size, np.dtype([(name, rows.dtype[name]) for name in columns]))
    for name in columns:
        packed[name] = rows[name]
    return packed.view(np.dtype((np.void, packed.dtype.itemsize)))


@dataclass(frozen=True, slots=True)
class _Part:
    key: int
    stack: Stack
    cache: str
    context: str
    comm: str


def _describe(row: Any, names: KernelNames) -> _Part:
    key = int(row["stack"])
    stack = names.stacks.get(key)
    context = Context(int(row["context"]))
    if context is Context.UNKNOWN:
        context = stack.context
    return _Part(
        key,
        stack,
        names.cache(int(row["kind"]), int(row["cache"]), int(row["bytes_alloc"])),
        context.name.lower(),
        _comm(bytes(row["comm"])),
    )


def _module(part: _Part) -> str:
    """The module nearest to the allocation, or the kernel itself."""
    return next((f.module for f in part.stack.frames if f.module and f.module != "bpf"), "(kernel)")


_LABELS: dict[By, Callable[[_Part], tuple[object, ...]]] = {
    By.STACK: lambda part: ("\n".join(part.stack.lines()), part.cache, part.context),
    By.CACHE: lambda part: (part.cache,),
    By.COMM: lambda part: (part.comm,),
    By.CONTEXT: lambda part: (part.context,),
    By.MODULE: lambda part: (_module(part),),
}
