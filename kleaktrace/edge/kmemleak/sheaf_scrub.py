# SPDX-License-Identifier: GPL-2.0-or-later
"""Frees kmemleak's sight of objects from what slab caches leave in their sheaves (mm/slub.c, `struct slab_sheaf`).

A CPU takes objects from the end of an array of pointers, a sheaf (since v6.18, of all caches since v7.0), and leaves
there what it has taken. kmemleak, which scans sheaves as it scans all that was kmalloced, takes that for references: so
the latest leaks of each cache and CPU are not listed (7.3 in a guest, where each way to leak is gone four times: seven
ways of thirty were not listed once).

The kernel frees a sheaf that no CPU takes from when it shrinks the cache, and a CPU whose sheaf is empty takes from
another one, which is a new one after that. So caches are shrunk, each CPU takes an object, and caches are shrunk again.
Objects that anybody can take are those of kmalloc, of which a look-up in a BPF map takes one of the size of its values
(kernel/bpf/syscall.c, `map_lookup_elem`). In other caches old pointers stay until their owners take or free something.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kleaktrace.edge.bpf.compiled_programs import MapSpec
from kleaktrace.edge.bpf.libbpf import create_map, lookup
from kleaktrace.edge.machine.cpus import on_each_cpu

CACHES = Path("/sys/kernel/slab")

_LOG = logging.getLogger(__name__)

_ARRAY = 2  # include/uapi/linux/bpf.h
_KEY = bytes(4)


def scrub_sheaves(caches: Path = CACHES) -> int:
    """Have the kernel give back its sheaves with old pointers; returns how many caches have any."""
    try:
        found = list(caches_with_sheaves(caches))
        if found:
            sizes = [_number(cache / "object_size") for cache in found if cache.name.startswith("kmalloc-")]
            _shrink(found)
            _take_on_each_cpu(sizes)
            _shrink(found)
    except (OSError, ValueError) as error:
        _LOG.info("sheaves of slab caches were not given back: %s", error)
        return 0
    return len(found)


def caches_with_sheaves(caches: Path = CACHES) -> Iterator[Path]:
    """Directories of caches; merged ones have links to them (mm/slub.c, `sysfs_slab_add`)."""
    for cache in sorted(caches.iterdir()):
        capacity = cache / "sheaf_capacity"
        if not cache.is_symlink() and capacity.exists() and _number(capacity):
            yield cache


def _number(file: Path) -> int:
    return int(file.read_text())


def _shrink(caches: Sequence[Path]) -> None:
    for cache in caches:
        with contextlib.suppress(FileNotFoundError):  # its module was unloaded
            (cache / "shrink").write_text("1")


def _take_on_each_cpu(sizes: Sequence[int]) -> None:
    """Take one object of each size on each CPU that we may use, and give it back."""
    with contextlib.ExitStack() as stack:
        maps = {size: create_map(MapSpec("kleaktrace_take", _ARRAY, 4, size, 1, 0)) for size in set(sizes)}
        for fd in maps.values():
            stack.callback(os.close, fd)
        for _ in on_each_cpu():
            for size, fd in maps.items():
                lookup(fd, _KEY, size)
