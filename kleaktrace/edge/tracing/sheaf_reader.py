# SPDX-License-Identifier: GPL-2.0-or-later
"""Which objects the sheaves of slab caches still point to, though they have handed them out (mm/slub.c).

kmemleak takes these old pointers for references: see edge/kmemleak/sheaf_scrub.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import hide
from kleaktrace.edge.bpf.btf import Btf
from kleaktrace.edge.tracing.abi import CONTENTS_WORDS
from kleaktrace.edge.tracing.object_reader import Read

_WORD = 8
_WORD_BITS = (1 << 64) - 1
_MOST_CACHES = 1 << 14


@dataclass(frozen=True, slots=True)
class SheafLayout:
    """Byte offsets in `struct kmem_cache`, `struct slub_percpu_sheaves` and `struct slab_sheaf`."""

    cpu_sheaves: int
    capacity: int
    next_cache: int
    of_cpu: tuple[int, ...]
    """The sheaves that a CPU has in use."""
    size: int
    objects: int


def sheaf_layout(btf: Btf) -> SheafLayout | None:
    """This kernel's; None: its slab caches have no sheaves."""
    paths = (
        *(("kmem_cache", "cpu_sheaves"), ("kmem_cache", "sheaf_capacity"), ("kmem_cache", "list")),
        *(("slub_percpu_sheaves", "main"), ("slub_percpu_sheaves", "spare"), ("slub_percpu_sheaves", "rcu_free")),
        *(("slab_sheaf", "size"), ("slab_sheaf", "objects")),
    )
    found = [offset for offset in (btf.offset(struct, member) for struct, member in paths) if offset is not None]
    if len(found) < len(paths):
        return None
    cpu_sheaves, capacity, next_cache, main, spare, rcu_free, size, objects = found
    return SheafLayout(cpu_sheaves, capacity, next_cache, (main, spare, rcu_free), size, objects)


class Unreadable(Exception):
    """Where sheaves are can't be read."""


class SheafReader:
    """Reads the sheaves of all caches. `caches`: address of the list of them; `offsets`: that of `__per_cpu_offset`.

    All addresses are plain ones. `cpus`: how many there may be.
    """

    def __init__(self, layout: SheafLayout, caches: int, offsets: int | None, cpus: int, read: Read) -> None:
        self._layout, self._caches, self._read = layout, caches, read
        self._of_cpus = [0] if offsets is None else self._words(offsets, cpus).tolist()

    def handed_out(self) -> U64:
        """The hidden addresses that sheaves hold behind their ends, of any cache on any CPU. Raises `Unreadable`."""
        kept = [pointers for cache in self._each_cache() for pointers in self._of_cache(cache)]
        return ~np.unique(np.concatenate(kept)) if kept else np.zeros(0, np.uint64)

    def _each_cache(self) -> Iterator[int]:
        at = self._words(self._caches, 1).item()
        for _ in range(_MOST_CACHES):
            if at == self._caches:
                return
            yield at - self._layout.next_cache
            at = self._words(at, 1).item()
        raise Unreadable

    def _of_cache(self, cache: int) -> Iterator[U64]:
        per_cpu = self._words(cache + self._layout.cpu_sheaves, 1).item()
        capacity = self._half(cache + self._layout.capacity)
        if not per_cpu or not capacity:
            return
        last = max(self._layout.of_cpu) // _WORD
        for offset in self._of_cpus:
            members = self._words(per_cpu + offset & _WORD_BITS, last + 1)
            for sheaf in (int(members[member // _WORD]) for member in self._layout.of_cpu):
                if sheaf:
                    used = self._half(sheaf + self._layout.size)
                    yield self._words(sheaf + self._layout.objects, capacity)[used:]

    def _half(self, address: int) -> int:
        aligned = address & ~(_WORD - 1)
        return int(self._words(aligned, 1).item() >> 8 * (address - aligned) & 0xFFFF_FFFF)

    def _words(self, address: int, count: int) -> U64:
        pieces = [
            (hide(address + _WORD * begin), _WORD * min(CONTENTS_WORDS, count - begin))
            for begin in range(0, count, CONTENTS_WORDS)
        ]
        read = self._read(pieces)
        if any(words.size * _WORD != size for words, (_, size) in zip(read, pieces, strict=True)):
            raise Unreadable
        return ~np.concatenate(read)
