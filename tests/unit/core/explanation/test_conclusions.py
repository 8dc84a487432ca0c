# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from kleaktrace.core.explanation.conclusions import Conclusion, Likelihood, Origin, explain
from kleaktrace.core.explanation.source_command import source_command
from kleaktrace.core.explanation.stack_trust import doubts
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.kmemleak_text import KmemleakText, Suspect

KMALLOC = KmemleakFrame(None, "__kmalloc_cache_noprof", 0x236, 0x290)
PROBE = KmemleakFrame(None, "drv_probe", 0x44, 0xF0, "drv")
CORE = KmemleakFrame(None, "device_add", 0x44, 0xF0)
GONE = KmemleakFrame(0xFFFFFFFFC03A204B)


def suspect(number: int = 0, *frames: KmemleakFrame, comm: str = "tool", age_s: float | None = None) -> Suspect:
    stack = frames or (KMALLOC, CORE)
    return Suspect(0xFFFF888000000000 + number, 64, "slab", comm, 7, 9, age_s, 5, stack)  # type: ignore[arg-type]


def conclude(*suspects: Suspect) -> Conclusion:
    return explain(KmemleakText(suspects, ())).conclusions[0]


@pytest.mark.parametrize(
    ("suspects", "likelihood"),
    [
        ([suspect()], Likelihood.OPEN),
        ([suspect(1), suspect(2), suspect(3)], Likelihood.LIKELY),
        ([suspect(1, KMALLOC, PROBE)], Likelihood.LIKELY),
        ([suspect(1, KMALLOC, GONE)], Likelihood.LIKELY),
        ([suspect(1, age_s=3600.0)], Likelihood.LIKELY),
        ([suspect(1, KMALLOC, PROBE, age_s=6.0)], Likelihood.OPEN),
        ([suspect(1, KmemleakFrame(None, "setup_zone_pageset", 1, 2))], Likelihood.UNLIKELY),
        ([suspect(n, KMALLOC, KmemleakFrame(None, "kvmppc_create_pte", 1, 2)) for n in range(9)], Likelihood.UNLIKELY),
    ],
)
def test_how_likely_it_is(suspects: list[Suspect], likelihood: Likelihood) -> None:
    one = conclude(*suspects)
    assert one.likelihood is likelihood
    assert one.speaks_for or one.speaks_against
    assert one.decides.startswith("sudo kleaktrace run ")


@pytest.mark.parametrize(
    ("one", "command"),
    [
        (suspect(1, KMALLOC, PROBE, KmemleakFrame(None, "do_one_initcall", 1, 2)), "modprobe drv && rmmod drv"),
        (suspect(1, KMALLOC, GONE, KmemleakFrame(None, "do_init_module", 1, 2)), "modprobe MODULE && rmmod MODULE"),
        (suspect(1, KMALLOC, PROBE, comm="insmod"), "modprobe drv && rmmod drv"),
        (suspect(1, comm="nvme"), "-- nvme …"),
        (suspect(1, comm="kworker/0:1"), "-- CMD"),
        (suspect(1, comm="a;rm -rf /"), "-- CMD"),
        (suspect(1, KMALLOC, PROBE._replace(module="x';reboot"), comm="insmod"), "modprobe MODULE"),
    ],
)
def test_the_command_that_decides(one: Suspect, command: str) -> None:
    assert command in conclude(one).decides


INITCALL = KmemleakFrame(None, "do_one_initcall", 1, 2)
START = KmemleakFrame(None, "start_kernel", 1, 2)


@pytest.mark.parametrize(
    ("comm", "pid", "frames", "is_of_boot"),
    [
        ("swapper/0", 1, (KMALLOC, CORE, INITCALL), True),
        ("swapper/0", 1, (KMALLOC, CORE), True),
        ("swapper", 1, (), True),
        ("swapper/0", 0, (KMALLOC, CORE, START), True),
        ("swapper/0", 0, (KMALLOC, CORE), False),
        ("swapper/3", 0, (KMALLOC, CORE), False),
        ("init", 1, (KMALLOC, CORE), False),
        ("modprobe", 9, (KMALLOC, CORE, INITCALL), False),
    ],
)
def test_no_command_does_again_what_happens_at_boot(
    comm: str, pid: int, frames: tuple[KmemleakFrame, ...], is_of_boot: bool
) -> None:
    decides = conclude(replace(suspect(1), comm=comm, pid=pid, frames=frames)).decides
    assert ("while the kernel boots" in decides) == is_of_boot
    assert decides.startswith("sudo kleaktrace confirm" if is_of_boot else "sudo kleaktrace run")


def test_whose_code_asked() -> None:
    found = explain(KmemleakText((suspect(1, KMALLOC, PROBE), suspect(2, KMALLOC, GONE), suspect(3), suspect(4)), ()))
    assert [(m.module, m.count, m.bytes) for m in found.modules] == [("", 2, 128), ("drv", 1, 64), (None, 1, 64)]


IRQ = KmemleakFrame(None, "asm_common_interrupt", 0x22, 0x40)
INLINED = KmemleakFrame(None, "drv_get", source="drivers/drv.c:12", inline=True)


@pytest.mark.parametrize(
    ("frames", "origin", "module"),
    [
        ((KMALLOC, CORE), Origin.KERNEL, ""),
        ((KMALLOC, PROBE), Origin.MODULE, "drv"),
        ((KMALLOC, INLINED, PROBE), Origin.MODULE, "drv"),
        ((KMALLOC, INLINED, CORE), Origin.KERNEL, ""),
        ((KMALLOC, CORE, PROBE), Origin.MODULE, "drv"),
        ((KMALLOC, CORE, GONE), Origin.GONE, None),
        ((KMALLOC, GONE, PROBE), Origin.GONE, None),
        ((KMALLOC, CORE, IRQ, PROBE), Origin.KERNEL, ""),
        ((KMALLOC, CORE, IRQ, GONE), Origin.KERNEL, ""),
        ((KMALLOC,), Origin.NOT_TOLD, None),
    ],
)
def test_whose_code_it_was(frames: tuple[KmemleakFrame, ...], origin: Origin, module: str | None) -> None:
    (share,) = explain(KmemleakText((suspect(1, *frames),), ())).modules
    assert (share.origin, share.module) == (origin, module)


def test_without_a_backtrace_nothing_tells() -> None:
    nothing = replace(suspect(1), frames=())
    assert explain(KmemleakText((nothing,), ())).modules[0].origin is Origin.NOT_TOLD


def test_an_inlined_function_is_not_called_from_its_own_module() -> None:
    group = conclude(suspect(1, KMALLOC, INLINED, PROBE)).group
    assert (group.requester, group.module, group.caller) == (INLINED, "drv", None)


def test_a_driver_that_had_core_code_ask() -> None:
    group = conclude(suspect(1, KMALLOC, CORE, PROBE)).group
    assert (group.requester, group.caller) == (CORE, PROBE)


def test_what_is_shared_need_not_be_the_fault_of_who_asked() -> None:
    assert any(
        "whoever comes last" in hint
        for hint in conclude(suspect(1, KMALLOC, KmemleakFrame(None, "skb_clone", 1, 2), PROBE)).hints
    )


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ((KMALLOC, PROBE, KmemleakFrame(None, "bpf_trampoline_6442536", 1, 2), CORE), "frames of a tracer"),
        ((KMALLOC, PROBE, KmemleakFrame(None, "ftrace_call", 1, 2), CORE), "frames of a tracer"),
        ((KMALLOC, PROBE._replace(offset=0), CORE), "the unwinder guessed"),
    ],
)
def test_stacks_that_cannot_be_trusted(frames: tuple[KmemleakFrame, ...], said: str) -> None:
    (doubt,) = doubts(frames, 1)
    assert said in doubt


def test_stacks_that_can() -> None:
    entry = KmemleakFrame(None, "ret_from_fork_asm", 0, 0x30)
    assert doubts((KMALLOC, PROBE, CORE, entry), 1) == ()


@pytest.mark.parametrize(
    ("frame", "command"),
    [
        (PROBE, "scripts/faddr2line drv.ko drv_probe+0x44/0xf0"),
        (CORE, "scripts/faddr2line vmlinux device_add+0x44/0xf0"),
        (PROBE._replace(source="a.c:12"), ""),
        (PROBE._replace(symbol="a;reboot"), ""),
        (GONE, ""),
        (None, ""),
    ],
)
def test_the_command_for_a_source_line(frame: KmemleakFrame | None, command: str) -> None:
    assert source_command(frame) == command
