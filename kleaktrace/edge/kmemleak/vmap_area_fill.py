# SPDX-License-Identifier: GPL-2.0-or-later
"""Frees kmemleak's sight of vmallocs from what describes free ranges of addresses (mm/vmalloc.c, 6.12).

vfree leaves its range as it is until there is much to give back. Meanwhile `struct vmap_area` still points to the
`struct vm_struct` that is freed, and that the next vmalloc may get: kmemleak sees two that point to it, and takes one
of them for a reference to the memory itself (`excess_ref`). So a leak by vmalloc after a vfree is not listed, until
the kernel is made to give back what was freed. Up to three ranges of a size it keeps for each CPU all the same (seen in
v7.3, of those of at most 256 pages): these are taken while kmemleak scans.

When vmalloc takes an aligned range out of the middle of a free one, what is left in front of it is described by a new
`struct vmap_area` (mm/vmalloc.c, `va_clip`), of which kmemleak scans every word; the one that says where the free range
ends is the address of what was allocated. So a leak there is not listed (no kvmalloc of more than 4 MiB ever was, for
these begin at a multiple of a huge page). The description goes when somebody takes the whole range: array maps do,
which nobody uses, while kmemleak scans.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kleaktrace.edge.bpf.compiled_programs import MapSpec
from kleaktrace.edge.bpf.libbpf import AttachType, ProgramType, create_map, load_program
from kleaktrace.edge.machine.cpus import on_each_cpu
from kleaktrace.edge.machine.meminfo import available_memory

FreeBefore = Callable[[int], int]

VMALLOCINFO = Path("/proc/vmallocinfo")

_ARRAY, _ARENA, _MMAPABLE = 2, 33, 1 << 10  # include/uapi/linux/bpf.h

_AROUND = 2 * mmap.PAGESIZE
"""Of the range that an array map takes: the map's own page, and the guard page behind it."""

_UNTIL_PURGED = 32 << 20
"""Freed bytes that the kernel leaves lying about for each doubling of its CPUs (mm/vmalloc.c, `lazy_max_pages`)."""

_PURGES = 12
"""The first puts small ranges by for the CPU that freed them; each further one gives a quarter of each size back, the
last three of them at once or never (mm/vmalloc.c, `decay_va_pool_node`, since v6.9): so sixty of a size are gone."""

_NEVER_PURGED = 3
_MOST_TAKEN = 192
"""Of these, for each is a file that is open, of which a process may have a thousand or so."""

_LARGEST_KEPT = 256 * mmap.PAGESIZE
"""mm/vmalloc.c, `MAX_VA_SIZE_PAGES`."""

_RETURN_0 = bytes.fromhex("b7000000000000009500000000000000")
"""A program, whose `struct bpf_prog` is a vmalloc of one page: an array map takes more."""

_PURGE_S = 2.0
"""At most so long for the kernel's workers to free, and to purge: they are no faster than a busy machine lets them."""

_LOOK_S = 0.01

_MOST_TRIES = 256
"""Each takes the lowest range that is large enough, which need not be the one that we mean."""

_MOST = 256 << 20
_SHARE = 8
"""At most one part in so many of what is available, here and in our cgroups, which array maps are charged to."""


@contextlib.contextmanager
def filled_vmap_areas(ranges: Mapping[int, int], free_before: FreeBefore) -> Iterator[None]:
    """Have what was freed given back; and meanwhile, keep the free ranges in use that end where one of `ranges` begins.

    ranges: by hidden address, the bytes that a vmalloc takes, with its guard page. `free_before` gives the bytes of
    the range that ends at an address. As many as can be had within bounds that leave others in peace; where the kernel
    does not let us, kmemleak sees as little as without us.
    """
    with contextlib.ExitStack() as stack:
        room = min(_MOST, available_memory() // _SHARE)
        if ranges:
            with contextlib.suppress(OSError):
                _purge(room)
            room -= _take_kept(stack, set(ranges.values()), room)
        with contextlib.suppress(OSError):
            for size in _sizes(sorted(ranges, reverse=True), free_before, room):
                stack.callback(os.close, _array(size))
        yield


def _purge(room: int) -> None:
    """Free so much that the kernel gives back all that was freed; without arenas that takes memory for a moment."""
    for _ in range(_PURGES):
        arenas = _arenas(VMALLOCINFO.read_text())
        if not _free_much(room):
            return
        _wait_until_purged(arenas)


def _wait_until_purged(arenas: int) -> None:
    """Return when no more than so many arenas are left, and what had been freed by then has been given back."""
    deadline = time.monotonic() + _PURGE_S
    freed: set[str] | None = None
    while time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        now = VMALLOCINFO.read_text()
        if freed is None and _arenas(now) <= arenas:
            freed = _unpurged(now)
        if freed is not None and not freed & _unpurged(now):
            return


def _unpurged(vmallocinfo: str) -> set[str]:
    """The ranges that were freed and not given back; what others free meanwhile is not waited for."""
    return {line for line in vmallocinfo.splitlines() if "unpurged" in line}


def _arenas(vmallocinfo: str) -> int:
    return vmallocinfo.count("arena_map_alloc")


def _free_much(room: int) -> bool:
    """Free more addresses than the kernel leaves lying about. An arena (since v6.9) has 4 GiB of them, and no memory.

    False: there is not so much room.
    """
    with contextlib.suppress(OSError):
        os.close(create_map(MapSpec("kleaktrace_hole", _ARENA, 0, 0, 1, _MMAPABLE)))
        return True
    count = (os.cpu_count() or 1).bit_length() + 1
    if count * _UNTIL_PURGED > room:
        return False
    for _ in range(count):
        os.close(_array(_UNTIL_PURGED))
    return True


def _take_kept(stack: contextlib.ExitStack, sizes: Iterable[int], room: int) -> int:
    """Take as many ranges of these sizes as the kernel keeps for each CPU; returns the bytes of memory taken."""
    taken = count = 0
    with contextlib.suppress(OSError):
        for _ in on_each_cpu():
            for size in sorted(size for size in sizes if size <= _LARGEST_KEPT) * _NEVER_PURGED:
                if taken + size > room or count == _MOST_TAKEN:
                    return taken
                stack.callback(os.close, _range(size))
                taken, count = taken + size, count + 1
    return taken


def _range(size: int) -> int:
    """File descriptor of something of ours that takes a range of so many bytes."""
    if size > _AROUND:
        return _array(size - _AROUND)
    return load_program(ProgramType.RAW_TRACEPOINT, "kleaktrace_hole", "GPL", _RETURN_0, AttachType.NONE, 0)


def _array(size: int) -> int:
    """File descriptor of an array map of so many bytes, in whole pages. It could be mapped: so it is vmalloced."""
    return create_map(MapSpec("kleaktrace_hole", _ARRAY, 4, mmap.PAGESIZE, size // mmap.PAGESIZE, _MMAPABLE))


def _sizes(addresses: Iterable[int], free_before: FreeBefore, room: int) -> Iterator[int]:
    """The bytes of one array map after the other, until no range is left that one could fill."""
    tries = _MOST_TRIES
    for address in addresses:
        while tries and _AROUND < (hole := free_before(address)) <= room:
            yield hole - _AROUND
            room -= hole
            tries -= 1
