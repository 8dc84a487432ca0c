# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the machine's counters of memory, for `core.machine.unexplained_memory` to compare."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from kleaktrace.core.machine.unexplained_memory import (
    Explained,
    MachineMemory,
    MissingMemory,
    SiteUse,
    SlabUse,
    Unexplained,
    unexplained,
)
from kleaktrace.edge.machine.kernel_log import KernelLog
from kleaktrace.edge.machine.meminfo import sizes_by_name

PROC = Path("/proc")
SLABS = Path("/sys/kernel/slab")

_READINGS = 5
_APART_S = 0.02
"""While we read, others allocate. The middle one of five readings is taken."""

_RING_BUFFER = b"27"  # include/uapi/linux/bpf.h, BPF_MAP_TYPE_RINGBUF
_ON_CPU_LIST = re.compile(r"^ +count: +(\d+)$", re.MULTILINE)  # mm/vmstat.c, zoneinfo_show_print
# lib/alloc_tag.c: alloc_tag_to_text and alloc_tag_module_unload. Files of modules built elsewhere have whole paths.
_SITE = re.compile(r"^ *(\d+) +(\d+) (?:/\S*/)?(.+?) *$", re.MULTILINE)
_AT_UNLOAD = re.compile(r"(?:/\S*/)?([^\s/]\S*:\d+ module \S+ func:\S+) has (\d+) allocated at module unload")


def machine_memory(proc: Path = PROC) -> MachineMemory:
    """Read all counters there are. Takes a tenth of a second or two. Raises OSError where there is no /proc/meminfo."""
    readings = [_counters(proc)]
    while len(readings) < _READINGS:
        time.sleep(_APART_S)
        readings.append(_counters(proc))
    middle = sorted(readings, key=lambda reading: reading.unaccounted)[_READINGS // 2]
    at_unload = sites_at_unload(_kernel_log())
    return replace(middle, bpf_rings=_bpf_rings(proc), sites=_sites(proc), sites_at_unload=at_unload)


def _counters(proc: Path) -> MachineMemory:
    page = os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):  # adds up what CPUs have counted for themselves (mm/vmstat.c)
        (proc / "sys/vm/stat_refresh").write_text("1")
    meminfo = (proc / "meminfo").read_text()
    zoneinfo, slabinfo, vmstat = (_text(proc / name) for name in ("zoneinfo", "slabinfo", "vmstat"))
    events = _vmstat(vmstat)
    slabs, of_kmemleak = _slabs(slabinfo, page)
    return MachineMemory(
        meminfo=sizes_by_name(meminfo),
        cpus=os.cpu_count() or 1,
        page=page,
        on_cpu_lists=page * sum(int(count) for count in _ON_CPU_LIST.findall(zoneinfo)),
        zspages=page * events.get("nr_zspages", 0),
        iommu=page * events.get("nr_iommu_pages", 0),
        slabs=slabs,
        kmemleak_slabs=of_kmemleak,
        stacks_in_vmalloc=_stacks_in_vmalloc(),
    )


def _bpf_rings(proc: Path) -> int:
    """Bytes of the BPF ring buffers that processes have open (kernel/bpf/syscall.c, bpf_map_show_fdinfo)."""
    rings: dict[bytes, int] = {}
    for link in proc.glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to see
            if str(link.readlink()) == "anon_inode:bpf-map":
                told = (link.parents[1] / "fdinfo" / link.name).read_bytes().splitlines()
                fields = dict(line.split(b":\t", 1) for line in told if b":\t" in line)
                if fields.get(b"map_type") == _RING_BUFFER:
                    rings[fields[b"map_id"]] = int(fields[b"memlock"])
    return sum(rings.values())


def missing_since(
    before: MachineMemory, explained_before: Explained, explained: Callable[[], Explained]
) -> list[Unexplained]:
    """What is gone since a reading, and not by what `explained` says is outstanding now (by kind, caught up).

    If slab caches seem to have grown, they are asked to give back what they only keep, and read again.
    """
    found = _missing(before, explained_before, explained)
    if any(one.name is MissingMemory.SLAB for one in found):
        shrink_slabs()
        found = _missing(before, explained_before, explained)
    return found


def _missing(
    before: MachineMemory, explained_before: Explained, explained: Callable[[], Explained]
) -> list[Unexplained]:
    now = explained()
    return unexplained(before, machine_memory(), now.since(explained_before))


def shrink_slabs(slabs: Path = SLABS) -> None:
    """Have every slab cache give back its empty slabs, those of each CPU too (mm/slub.c, shrink_store)."""
    for directory in slabs.iterdir() if slabs.is_dir() else ():
        if not directory.is_symlink():  # a merged cache's other name
            with contextlib.suppress(OSError):
                (directory / "shrink").write_text("1")


def _vmstat(text: str) -> dict[str, int]:
    lines = (line.partition(" ") for line in text.splitlines())
    return {name: int(number) for name, _, number in lines if number.isdigit()}


def _slabs(text: str, page: int) -> tuple[SlabUse | None, SlabUse | None]:
    """Of all caches but kmemleak's, and of those (mm/slab_common.c, slabinfo_show; version 2.1)."""
    lines = [line.split() for line in text.splitlines() if " : slabdata " in line]
    caches = [line for line in lines if not line[0].startswith("#")]
    if not caches:
        return None, None
    others, own = ([line for line in caches if line[0].startswith("kmemleak_") is is_own] for is_own in (False, True))
    return _slab_use(others, page), _slab_use(own, page)


def _slab_use(caches: Sequence[Sequence[str]], page: int) -> SlabUse:
    """NAME active_objs num_objs objsize objperslab pagesperslab : tunables L B S : slabdata active num shared."""
    objects = pages = 0
    for fields in caches:
        objects += int(fields[1]) * int(fields[3])
        pages += int(fields[-2]) * int(fields[5]) * page
    return SlabUse(objects, pages)


def _sites(proc: Path) -> dict[str, SiteUse]:
    found = _SITE.findall(_text(proc / "allocinfo"))
    return {site: SiteUse(int(size), int(count)) for size, count, site in found if int(size)}


def _kernel_log() -> list[str]:
    with contextlib.suppress(OSError), KernelLog() as log:
        return log.lines()
    return []


def sites_at_unload(log: Iterable[str]) -> dict[str, SiteUse]:
    """What the kernel says that modules left behind: their call sites are no longer in /proc/allocinfo."""
    left: defaultdict[str, int] = defaultdict(int)
    for line in log:
        if found := _AT_UNLOAD.search(line):
            left[found[1]] += int(found[2])
    return {site: SiteUse(size) for site, size in left.items()}


@cache
def _stacks_in_vmalloc() -> bool:
    """Whether this kernel takes its stacks from vmalloc: it has a function for those of dead tasks (kernel/fork.c)."""
    return b" free_vm_stack_cache\n" in (PROC / "kallsyms").read_bytes()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
