# SPDX-License-Identifier: GPL-2.0-or-later
"""What is missing from the machine's own counters, from readings and files like the kernel's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from builders import rows
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.records import Kind
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING
from kleaktrace.core.ledger.tally import tally
from kleaktrace.core.machine.unexplained_memory import (
    Explained,
    MachineMemory,
    MissingMemory,
    SiteUse,
    SlabUse,
    Unexplained,
    explained_by,
    unexplained,
)
from kleaktrace.edge.machine.memory_counters import machine_memory, shrink_slabs, sites_at_unload

MIB = 1 << 20
NOTHING = Explained(0, 0, 0)

USES = (
    *("MemFree", "SReclaimable", "SUnreclaim", "PageTables", "SecPageTables", "VmallocUsed", "Percpu"),
    *("ShadowCallStack", "Hugetlb", "WritebackTmp", "KernelStack", "Zswap"),
)
"""Each line counts pages of its own, on a kernel whose stacks are not vmalloc's."""


def machine(**changed: int) -> MachineMemory:
    """A machine of 2 GiB and 2 CPUs; changes in MiB."""
    meminfo = {
        **{"MemTotal": 2048, "MemFree": 1000, "Slab": 100, "SReclaimable": 60, "SUnreclaim": 40, "KReclaimable": 60},
        **{"Active(anon)": 50, "Inactive(anon)": 50, "Active(file)": 100, "Inactive(file)": 200, "Unevictable": 10},
        **{"AnonPages": 90, "Cached": 300, "Buffers": 20, "VmallocUsed": 20, "Percpu": 10, "PageTables": 5},
    }
    sizes = {name: size * MIB for name, size in {**meminfo, **changed}.items()}
    slabs, own = SlabUse(80 * MIB, 90 * MIB), SlabUse(4 * MIB, 5 * MIB)
    return MachineMemory(sizes, cpus=2, slabs=slabs, kmemleak_slabs=own)


def more(reading: MachineMemory, **growth: float) -> MachineMemory:
    """The same machine with more (MiB) of these lines of /proc/meminfo."""
    meminfo = dict(reading.meminfo)
    for name, size in growth.items():
        meminfo[name] = meminfo.get(name, 0) + round(size * MIB)
    return replace(reading, meminfo=meminfo)


def names(found: list[Unexplained]) -> list[str]:
    return [one.name for one in found]


def test_pages_that_left_every_counter_are_gone() -> None:
    before = machine()
    (found,) = unexplained(before, more(before, MemFree=-21), NOTHING)
    assert (found.name, found.bytes, found.sites) == ("pages", 21 * MIB, ())
    assert str(found) == ("21 MiB of pages are gone, not by slab or vmalloc: kmemleak and this trace don't see pages")
    assert names(unexplained(before, more(before, MemFree=-4), NOTHING)) == ["pages"]
    assert not unexplained(before, more(before, MemFree=-1.5), NOTHING)
    assert not unexplained(before, more(before, MemFree=21), NOTHING)


def test_traced_pages_explain_what_is_gone() -> None:
    before = machine()
    after = more(before, MemFree=-21)
    (known,) = unexplained(before, after, replace(NOTHING, pages=20 * MIB))
    assert (known.name, known.bytes) == (MissingMemory.TRACED_PAGES, 20 * MIB)
    known, unknown = unexplained(before, after, replace(NOTHING, pages=10 * MIB))
    assert (known.name, known.bytes) == (MissingMemory.TRACED_PAGES, 10 * MIB)
    assert (unknown.name, unknown.bytes) == ("pages", 11 * MIB)
    assert str(unknown).startswith("11 MiB more pages are gone than the traced allocations explain")
    assert not unexplained(before, before, replace(NOTHING, pages=20 * MIB)), "what is counted elsewhere is not gone"


@pytest.mark.parametrize("use", [use for use in USES if use not in ("MemFree", "VmallocUsed", "Percpu")])
def test_pages_with_a_known_use_are_not_gone(use: str) -> None:
    before = machine()
    assert not unexplained(before, more(before, MemFree=-50, **{use: 50}), NOTHING)


def test_what_processes_and_files_took_is_not_gone_wherever_it_is_counted() -> None:
    before = machine()
    # the rest of a huge page of which a part was given back is on the list, though not mapped
    on_list = more(before, MemFree=-50, **{"Active(anon)": 50})
    assert not unexplained(before, on_list, NOTHING)
    # mapped, and on its way to a list
    assert not unexplained(before, more(before, MemFree=-50, AnonPages=50), NOTHING)
    assert names(unexplained(before, more(on_list, MemFree=-5), NOTHING)) == ["pages"]


def test_free_pages_on_the_lists_of_cpus_are_free() -> None:
    before = machine()
    after = more(before, MemFree=-30)
    assert not unexplained(before, replace(after, on_cpu_lists=30 * MIB), NOTHING)
    assert not unexplained(before, replace(after, zspages=30 * MIB), NOTHING)
    assert not unexplained(before, replace(after, bpf_rings=30 * MIB), NOTHING)
    assert not unexplained(before, replace(after, iommu=30 * MIB), NOTHING)


def test_a_compressed_page_is_counted_once() -> None:
    before = machine()
    after = replace(more(before, MemFree=-30, Zswap=15), zspages=15 * MIB)
    assert [one.bytes for one in unexplained(before, after, NOTHING)] == [15 * MIB]


def test_stacks_from_vmalloc_are_counted_once() -> None:
    before = replace(machine(), stacks_in_vmalloc=True)
    after = more(before, MemFree=-30, VmallocUsed=15, KernelStack=15)
    found = unexplained(before, after, Explained(0, 15 * MIB, 0))
    assert [(one.name, one.bytes) for one in found] == [("pages", 15 * MIB)]


def test_memory_that_came_or_went_with_a_balloon_is_not_gone() -> None:
    before = machine()
    assert not unexplained(before, more(before, MemFree=-50, MemTotal=-50), NOTHING)


@given(st.dictionaries(st.sampled_from(USES), st.integers(0, 300)), st.integers(2, 400))
def test_a_leak_shows_whatever_else_happens(growth: Mapping[str, int], leak: int) -> None:
    """All that grows takes from what is free, and the leak does too."""
    before = machine()
    taken = {use: size for use, size in growth.items() if use != "MemFree"}
    after = more(more(before, **taken), MemFree=-sum(taken.values()) - leak)
    assert after.unaccounted - before.unaccounted == leak * MIB


def test_slab_objects_that_no_event_tells_of() -> None:
    before = machine()
    after = replace(before, slabs=SlabUse(92 * MIB, 90 * MIB))
    (found,) = unexplained(before, after, NOTHING)
    assert (found.name, found.bytes) == ("slab", 12 * MIB)
    assert not unexplained(before, after, Explained(10 * MIB, 0, 0))
    assert not unexplained(before, after, Explained(None, 0, 0)), "events that can't be seen explain nothing"
    # kmemleak's own records
    own = replace(more(before, Slab=12, SUnreclaim=12, MemFree=-12), kmemleak_slabs=SlabUse(15 * MIB, 17 * MIB))
    assert not unexplained(before, own, NOTHING)
    # no cache has grown: large kmallocs
    large = more(before, Slab=12, SUnreclaim=12, MemFree=-12)
    assert names(unexplained(before, large, NOTHING)) == ["slab"]
    assert not unexplained(before, large, Explained(12 * MIB, 0, 0))


def test_without_slabinfo_nothing_is_said_of_slabs() -> None:
    before = replace(machine(), slabs=None, kmemleak_slabs=None)
    assert not unexplained(before, more(before, Slab=50, SUnreclaim=50, MemFree=-50), NOTHING)


@pytest.mark.parametrize(("line", "kind"), [("VmallocUsed", "vmalloc"), ("Percpu", "percpu")])
def test_areas_that_no_event_tells_of(line: str, kind: str) -> None:
    before = machine()
    after = more(before, MemFree=-3, **{line: 3})
    (found,) = unexplained(before, after, NOTHING)
    assert (found.name, found.bytes) == (kind, 3 * MIB)
    assert not unexplained(before, after, replace(NOTHING, **{kind: 2 * MIB}))
    assert not unexplained(before, after, replace(NOTHING, **{kind: None}))


def test_more_cpus_may_hold_back_more() -> None:
    before = replace(machine(), cpus=16)
    assert not unexplained(before, more(before, MemFree=-8), NOTHING)
    assert unexplained(before, more(before, MemFree=-10), NOTHING)


def test_the_call_sites_that_took_the_pages_are_named() -> None:
    before = replace(
        machine(),
        sites={"drv.c:7 [drv] func:drv_fill": SiteUse(MIB, 256), "fs/inode.c:9 func:alloc_inode": SiteUse(MIB, 900)},
        sites_at_unload={"old.c:1 module old func:old_init": SiteUse(8 * MIB)},
    )
    after = replace(
        more(before, MemFree=-20),
        sites={
            "drv.c:7 [drv] func:drv_fill": SiteUse(13 * MIB, 256 * 13),
            "fs/inode.c:9 func:alloc_inode": SiteUse(20 * MIB, 16384),
            "mm/slub.c:2423 func:alloc_slab_page": SiteUse(20 * MIB, 1280),
            "net/core.c:5 func:a_page": SiteUse(4096, 1),
        },
        sites_at_unload={
            "old.c:1 module old func:old_init": SiteUse(8 * MIB),
            "new.c:2 module new func:new_init": SiteUse(8 * MIB),
        },
    )
    (found,) = unexplained(before, after, NOTHING)
    assert found.sites == (("drv.c:7 [drv] func:drv_fill", 12 * MIB), ("new.c:2 module new func:new_init", 8 * MIB))
    assert str(found).endswith("(12 MiB by drv.c:7 [drv] func:drv_fill, 8.0 MiB by new.c:2 module new func:new_init)")


def test_the_call_sites_that_took_small_objects_are_named() -> None:
    before = machine()
    sites = {
        "mm/shmem.c:9 func:shmem_alloc_inode": SiteUse(8000 * 700, 8000),
        "mm/shmem.c:5 func:shmem_alloc_folio": SiteUse(20 * MIB, 5120),
        "mm/slub.c:2478 func:alloc_slab_page": SiteUse(20 * MIB, 1777),  # of several sizes
        "drv.c:7 [drv] func:drv_fill": SiteUse(20 * MIB, 5120),
    }
    (found,) = unexplained(before, replace(before, slabs=SlabUse(92 * MIB, 90 * MIB), sites=sites), NOTHING)
    assert found.sites == (("mm/shmem.c:9 func:shmem_alloc_inode", 8000 * 700),)


def test_what_is_outstanding_explains_its_allocator() -> None:
    held = [(Kind.KMALLOC, 64), (Kind.CACHE, 128), (Kind.KMALLOC, 16384), (Kind.VMALLOC, 4096), (Kind.PERCPU, 32)]
    held += [(Kind.PAGES, 4096), (Kind.PAGES, 32768)]
    found = explained_by(tally(rows(OUTSTANDING, *({"kind": kind, "bytes_alloc": size} for kind, size in held))))
    assert found == Explained(16576, 4096, 32, 36864)
    assert found.since(Explained(576, None, 2, 4096)) == Explained(16000, None, 30, 32768)
    assert found.since(Explained(576, None, 2)).pages is None
    assert explained_by(tally(rows(OUTSTANDING))) == Explained(0, 0, 0, 0)


def test_vmalloc_may_have_rounded_up_to_huge_pages() -> None:
    sizes = (4 * MIB + 4096, 4 * MIB + 4096, 6 * MIB, MIB + 4096)
    held = ({"kind": Kind.VMALLOC, "bytes_alloc": size} for size in sizes)
    known = explained_by(tally(rows(OUTSTANDING, *held)))
    assert known.rounding == 2 * (2 * MIB - 4096)
    assert known.since(known).rounding == 0
    before, after = machine(), more(machine(), MemFree=-19, VmallocUsed=19)  # 12, 6 and 1 MiB
    assert not unexplained(before, after, known)
    assert names(unexplained(before, after, replace(known, rounding=0))) == ["vmalloc"]


ZONEINFO = """\
Node 0, zone    DMA32
  pages free     5000
        low      10
  pagesets
    cpu: 0
              count: 60
              high:  100
              batch: 63
  vm stats threshold: 12
    cpu: 1
              count: 4
              high:  100
              batch: 63
"""
SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> \
<sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
inode cache          10     20   1000   10    2 : tunables    0    0    0 : slabdata      2      2      0
kmalloc-64          100    128     64   64    1 : tunables    0    0    0 : slabdata      2      2      0
kmemleak_object       7     12    320   12    1 : tunables    0    0    0 : slabdata      1      1      0
"""
ALLOCINFO = """\
allocinfo - version: 1.0
#     <size>  <calls> <tag info>
           0        0 init/main.c:1 func:nothing\x20
       8192        2 drivers/drv.c:7 [drv] func:drv_fill\x20
       4096        1 /home/me/mine/own.c:9 [own] func:own_init\x20
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 500 kB\nSlab: 20 kB\n")
    (tmp_path / "zoneinfo").write_text(ZONEINFO)
    (tmp_path / "slabinfo").write_text(SLABINFO.replace("inode cache", "inode_cache"))
    for process in ("7", "8"):  # that share a map
        (tmp_path / process / "fd").mkdir(parents=True)
        (tmp_path / process / "fdinfo").mkdir()
        (tmp_path / process / "fd" / "3").symlink_to("anon_inode:bpf-map")
        (tmp_path / process / "fdinfo" / "3").write_text("flags:\t02\nmap_type:\t27\nmemlock:\t4096\nmap_id:\t5\n")
    (tmp_path / "7" / "fd" / "4").symlink_to("anon_inode:bpf-map")
    (tmp_path / "7" / "fdinfo" / "4").write_text("map_type:\t1\nmemlock:\t8192\nmap_id:\t6\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 5000\nnr_zspages 3\nnr_iommu_pages 2\n")
    (tmp_path / "allocinfo").write_text(ALLOCINFO)
    return tmp_path


def test_the_kernels_files_are_read(proc: Path) -> None:
    found = machine_memory(proc)
    assert found.meminfo["MemFree"] == 500 * 1024
    assert found.bpf_rings == 4096
    assert (found.on_cpu_lists, found.zspages, found.iommu) == (64 * found.page, 3 * found.page, 2 * found.page)
    assert found.slabs == SlabUse(10 * 1000 + 100 * 64, 6 * found.page)
    assert found.kmemleak_slabs == SlabUse(7 * 320, found.page)
    assert found.sites == {
        "drivers/drv.c:7 [drv] func:drv_fill": SiteUse(8192, 2),
        "own.c:9 [own] func:own_init": SiteUse(4096, 1),
    }


def test_the_kernel_says_what_modules_left_behind() -> None:
    log = [
        "/home/me/mine/own.c:9 module own func:own_init has 4096 allocated at module unload",
        "drivers/drv.c:7 module drv func:drv_fill has 64 allocated at module unload",
        "WARNING: CPU: 0 PID: 90 at lib/alloc_tag.c:171 alloc_tag_module_unload+0x10/0x20",
        "/home/me/mine/own.c:9 module own func:own_init has 8192 allocated at module unload",
    ]
    assert sites_at_unload(log) == {
        "own.c:9 module own func:own_init": SiteUse(12288),
        "drivers/drv.c:7 module drv func:drv_fill": SiteUse(64),
    }


def test_files_that_are_not_there_are_not_missed(proc: Path) -> None:
    for name in ("zoneinfo", "slabinfo", "vmstat", "allocinfo"):
        (proc / name).unlink()
    found = machine_memory(proc)
    assert (found.on_cpu_lists, found.zspages, found.slabs, found.sites) == (0, 0, None, {})
    (proc / "meminfo").unlink()
    with pytest.raises(OSError, match="meminfo"):
        machine_memory(proc)


def test_each_cache_is_shrunk_once(tmp_path: Path) -> None:
    (tmp_path / ":0000064").mkdir()
    (tmp_path / ":0000064" / "shrink").touch()
    (tmp_path / "kmalloc-64").symlink_to(":0000064")
    (tmp_path / "without").mkdir()
    shrink_slabs(tmp_path)
    assert (tmp_path / ":0000064" / "shrink").read_text() == "1"
    shrink_slabs(tmp_path / "nowhere")
