# SPDX-License-Identifier: GPL-2.0-or-later
"""Frees kmemleak's sight of objects from what slab caches leave in their sheaves (mm/slub.c, `struct slab_sheaf`).

A CPU takes objects from the end of an array of pointers, a sheaf (since v6.18, of all caches since v7.0), and leaves
there what it has taken. kmemleak, which scans sheaves as it scans all that was kmalloced, takes that for references: so
the latest leaks of each cache and CPU are not listed (7.3 in a guest, where each way to leak is gone four times: seven
ways of thirty were not listed once).

The kernel frees a sheaf that no CPU takes from when it shrinks the cache, and a CPU whose sheaf is empty takes from
another one, which is a new one after that. So caches are shrunk, each CPU takes an object, and caches are shrunk again.
Objects that anybody can take are those of plain kmalloc, of which a look-up in a BPF map takes one of the size of its
values (kernel/bpf/syscall.c, `map_lookup_elem`). In other caches, those of accounted kmallocs and of memdup_user among
them, old pointers stay until somebody takes or frees some: edge/tracing/sheaf_reader.py tells which they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kleaktrace.edge.bpf.compiled_programs import MapSpec
from kleaktrace.edge.bpf.libbpf import create_map, lookup
from kleaktrace.edge.machine.cpus import on_each_cpu

CACHES = Path("/sys/kernel/slab")

_LOG = logging.getLogger(__name__)

_PLAIN_KMALLOC = re.compile(r"kmalloc-\d+k?")

_ARRAY = 2  # include/uapi/linux/bpf.h
_KEY = bytes(4)


def scrub_sheaves(caches: Path = CACHES) -> int:
    """Have the kernel give back sheaves with old pointers, as far as it lets us; returns how many caches have any."""
    found = list(caches_with_sheaves(caches))
    try:
        for cache in found:
            _shrink(cache)
        _take_on_each_cpu([cache for cache in found if _PLAIN_KMALLOC.fullmatch(cache.name)])
        for cache in found:
            _shrink(cache)
    except (OSError, ValueError) as error:
        _LOG.info("sheaves of slab caches were not given back: %s", error)
    return len(found)


def caches_with_sheaves(caches: Path = CACHES) -> Iterator[Path]:
    """Directories of caches; merged ones have links to them (mm/slub.c, `sysfs_slab_add`). Modules' ones may go."""
    for capacity in sorted(caches.glob("*/sheaf_capacity")):
        with contextlib.suppress(OSError, ValueError):
            if not capacity.parent.is_symlink() and int(capacity.read_text()):
                yield capacity.parent


def _shrink(cache: Path) -> None:
    with contextlib.suppress(OSError):  # its module was unloaded
        (cache / "shrink").write_text("1")


def _take_on_each_cpu(caches: Sequence[Path]) -> None:
    """Take one object of each on each CPU that we may use, at once after it was shrunk, and give it back.

    Who frees one there in between puts it into the old sheaf, which is not replaced then.
    """
    with contextlib.ExitStack() as stack:
        sizes = {cache: int((cache / "object_size").read_text()) for cache in caches}
        maps = {cache: create_map(MapSpec("kleaktrace_take", _ARRAY, 4, sizes[cache], 1, 0)) for cache in caches}
        for fd in maps.values():
            stack.callback(os.close, fd)
        for _ in on_each_cpu():
            for cache, fd in maps.items():
                _shrink(cache)
                lookup(fd, _KEY, sizes[cache])
