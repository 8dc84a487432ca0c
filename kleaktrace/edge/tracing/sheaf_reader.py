# SPDX-License-Identifier: GPL-2.0-or-later
"""Which objects the sheaves of slab caches still point to, though they have handed them out (mm/slub.c).

kmemleak takes these old pointers for references: see edge/kmemleak/sheaf_scrub.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import hide
from kleaktrace.edge.bpf.btf import Btf

Read = Callable[[Sequence[tuple[int, int]]], Sequence[U64]]
"""As `Tracer.read_objects`."""

_WORD = 8
_HALF = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class SheafLayout:
    """Byte offsets in `struct kmem_cache`, `struct slub_percpu_sheaves` and `struct slab_sheaf`."""

    cpu_sheaves: int
    capacity: int
    of_cpu: tuple[int, ...]
    """The sheaves that a CPU takes from, and puts to."""
    size: int
    objects: int


def sheaf_layout(btf: Btf) -> SheafLayout | None:
    """This kernel's; None: its slab caches have no sheaves."""
    paths = (
        *(("kmem_cache", "cpu_sheaves"), ("kmem_cache", "sheaf_capacity")),
        *(("slub_percpu_sheaves", "main"), ("slub_percpu_sheaves", "spare")),
        *(("slab_sheaf", "size"), ("slab_sheaf", "objects")),
    )
    found = [offset for offset in (btf.offset(struct, member) for struct, member in paths) if offset is not None]
    if len(found) < len(paths):
        return None
    cpu_sheaves, capacity, main, spare, size, objects = found
    return SheafLayout(cpu_sheaves, capacity, (main, spare), size, objects)


def handed_out(layout: SheafLayout, caches: Iterable[int], cpu_offsets: Collection[int], read: Read) -> U64:
    """The hidden addresses that sheaves of these caches (plain addresses) hold behind their ends, on any CPU.

    cpu_offsets: by CPU, what to add to a per-CPU pointer (`__per_cpu_offset`).
    """
    kept = [pointers for cache in caches for pointers in _of_cache(layout, cache, cpu_offsets, read)]
    return np.unique(np.concatenate(kept)) if kept else np.zeros(0, np.uint64)


def _of_cache(layout: SheafLayout, cache: int, cpu_offsets: Collection[int], read: Read) -> Iterator[U64]:
    per_cpu, capacity = _word(read, cache + layout.cpu_sheaves), _word(read, cache + layout.capacity) & _HALF
    if not per_cpu or not capacity:
        return
    for offset in cpu_offsets:
        for member in layout.of_cpu:
            sheaf = _word(read, (per_cpu + offset + member) & ~-(1 << 64))
            if not sheaf:
                continue
            used = _word(read, sheaf + layout.size) & _HALF
            (pointers,) = read([(hide(sheaf + layout.objects), capacity * _WORD)])
            yield pointers[used:]


def _word(read: Read, address: int) -> int:
    """The word at a plain address; 0 if nothing can be read there."""
    (words,) = read([(hide(address), _WORD)])
    return hide(int(words[0])) if len(words) else 0
