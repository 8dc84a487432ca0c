# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.groups import group, hints
from kleaktrace.core.kmemleak.report_parser import Suspect

KMALLOC = KmemleakFrame(None, "__kmalloc_cache_noprof", 0x236, 0x290)
GONE = KmemleakFrame(0xFFFFFFFFC03A204B)
INITCALL = KmemleakFrame(None, "do_one_initcall", 0x44, 0x330)
PROBE = KmemleakFrame(None, "probe", 0x44, 0xF0, "drv")


def suspect(
    address: int = 0xFFFF888000001000,
    size: int = 64,
    kind: str = "slab",
    comm: str = "insmod",
    pid: int = 7,
    jiffies: int = 4295017005,
    age_s: float | None = None,
    crc: int | None = 0x1234,
    frames: tuple[KmemleakFrame, ...] = (KMALLOC, PROBE),
    more: int = 0,
) -> Suspect:
    return Suspect(address, size, kind, comm, pid, jiffies, age_s, crc, frames, more)


def test_identical_backtraces_are_one_group_most_bytes_first() -> None:
    other = (KMALLOC, KmemleakFrame(None, "probe", 0x48, 0xF0, "drv"))
    groups = group(
        [suspect(1, 64), suspect(2, 4096, frames=other), suspect(3, 96, comm="modprobe"), suspect(4, 64, more=5)]
    )
    assert [(g.count, g.bytes) for g in groups] == [(1, 4096), (8, 64 + 96 + 6 * 64)]
    assert groups[1].sizes == {64: 7, 96: 1}
    assert groups[1].allocators == {("insmod", 7): 2, ("modprobe", 7): 1}


def test_inlined_frames_do_not_part_a_group() -> None:
    inlined = (KmemleakFrame(None, "kzalloc", source="slab.h:1", inline=True), KMALLOC, PROBE)
    assert len(group([suspect(1), suspect(2, frames=inlined)])) == 1


def test_kinds_and_objects_without_backtrace_stay_apart() -> None:
    assert len(group([suspect(1), suspect(1, kind="percpu")])) == 2
    assert len(group([suspect(1, frames=()), suspect(2, frames=())])) == 2


@pytest.mark.parametrize(
    "name",
    [
        "kmemleak_alloc", "kmem_cache_alloc_node_noprof", "__kmalloc_cache_noprof", "__kmalloc", "kmalloc_trace",
        "kvmalloc_node", "__kvmalloc_node_noprof", "pcpu_alloc_noprof", "__vmalloc_node_range", "create_object",
        "kmalloc_trace.isra.0", "slab_post_alloc_hook", "___kmalloc_large_node", "__link_object", "slab_alloc_node",
        "__kmalloc_node_track_caller_noprof", "kmem_cache_zalloc", "vzalloc", "kmemleak_vmalloc", "kstrdup",
    ],
)  # fmt: skip
def test_functions_of_the_allocators_are_never_who_asked(name: str) -> None:
    (one,) = group([suspect(frames=(KmemleakFrame(None, name, 1, 2), PROBE))])
    assert (one.allocator_frames, one.requester) == (1, PROBE)


@pytest.mark.parametrize("name", ["probe", "blk_alloc_queue", "drv_kmalloc"])
def test_functions_that_ask_for_memory(name: str) -> None:
    asking = KmemleakFrame(None, name, 1, 2, "drv")
    (one,) = group([suspect(frames=(KMALLOC, asking, PROBE))])
    assert (one.requester, one.module) == (asking, "drv")


def test_who_asked_is_behind_functions_that_allocate_for_others() -> None:
    (one,) = group([suspect(frames=(KMALLOC, KmemleakFrame(None, "__alloc_skb", 1, 2), PROBE))])
    assert (one.allocator_frames, one.requester) == (1, PROBE)


def test_who_asked_may_have_no_name() -> None:
    (one,) = group([suspect(frames=(KMALLOC, GONE, PROBE))])
    assert (one.requester, one.module) == (GONE, None)
    (one,) = group([suspect(frames=())])
    assert one.requester is None


def test_allocator_frames_are_only_the_innermost() -> None:
    (one,) = group([suspect(frames=(KMALLOC, KMALLOC, PROBE, KMALLOC))])
    assert one.allocator_frames == 2


def all_hints(**fields: object) -> str:
    (one,) = group([suspect(**fields)])  # type: ignore[arg-type]
    return "\n".join(hints(one))


def test_an_ordinary_suspect_has_no_hints() -> None:
    assert all_hints() == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"frames": (PROBE,) * 16}, "cut at 16"),
        (
            {"frames": (KMALLOC, KmemleakFrame(0xFFFFFFFFC03A204B), KmemleakFrame(0xFFFFFFFFC03A3000))},
            "2 frames without a name",
        ),
        ({"frames": ()}, "no backtrace to be read"),
        ({"frames": (KMALLOC, PROBE, GONE, INITCALL)}, "of [drv]: the init function"),
        ({"frames": (KMALLOC, GONE, INITCALL)}, "unless its whole module was unloaded"),
        ({"frames": (KMALLOC, GONE, GONE, INITCALL)}, "2 frames without a name"),
        ({"frames": (KMALLOC, PROBE, KmemleakFrame(None, "common_interrupt", 1, 2))}, "interrupted"),
        ({"frames": (KMALLOC, PROBE, KmemleakFrame(None, "do_IRQ", 1, 2))}, "interrupted"),
        ({"kind": "percpu"}, "per-CPU"),
        ({"kind": "phys"}, "physical"),
        ({"comm": "softirq", "pid": 0}, "softirq"),
        ({"frames": (KMALLOC, PROBE, KmemleakFrame(None, "__irq_svc", 1, 2))}, "interrupted"),
        ({"frames": (KMALLOC, KmemleakFrame(None, "setup_zone_pageset", 1, 2))}, "known false positive"),
        ({"frames": (KMALLOC, KmemleakFrame(None, "kvmppc_create_pte", 1, 2))}, "page tables"),
        ({"crc": 0}, "crc 0"),
        ({"age_s": 5.2}, "younger than 10 s"),
        ({"jiffies": 4294892296}, "five minutes of boot"),
    ],
)
def test_hints(fields: dict[str, object], said: str) -> None:
    assert said in all_hints(**fields)


@pytest.mark.parametrize("outer", ["my_test_pgtable_setup", "pmd_alloc_one", "virtnet_poll", "call_rcu", "kvmppc_run"])
def test_functions_that_only_called_who_asked_are_no_excuse(outer: str) -> None:
    clone = KmemleakFrame(None, "skb_clone", 1, 2)
    assert all_hints(frames=(KMALLOC, clone, PROBE, KmemleakFrame(None, outer, 1, 2))) == ""
