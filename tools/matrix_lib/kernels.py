# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels of the matrix: how tools/guest boots each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FRAGMENTS = Path(__file__).resolve().parents[1] / "kernels"


@dataclass(frozen=True)
class Kernel:
    """A row of the matrix."""

    name: str
    what: str
    """What is special about it."""
    options: tuple[str, ...] = ()
    """Of tools/guest."""
    has_lab: bool = True
    """Whether the lab's module, which nobody has signed, can be loaded."""


def _parameter(*parameters: str) -> tuple[str, ...]:
    return tuple(f"--append={parameter}" for parameter in parameters)


def _build(fragment: str) -> tuple[str, ...]:
    return (f"--config={FRAGMENTS / fragment}.config",)


KERNELS = (
    Kernel("6.12", "as distributions configure it"),
    Kernel("6.1", "the same of 6.1", ("--kernel=6.1",)),
    Kernel("newest", "the newest that Debian has, as distributions configure it", ("--kernel=newest",)),
    Kernel("arm64", "6.12 on arm64: signed return addresses, 4 KiB pages", ("--arch=arm64",)),
    Kernel("arm64-64k", "6.12 on arm64, pages of 64 KiB", ("--arch=arm64", *_build("arm64-64k"))),
    Kernel("arm64-nopauth", "6.12 on arm64, without signatures", ("--arch=arm64", *_parameter("arm64.nopauth"))),
    Kernel("integrity", "`lockdown=integrity`", _parameter("lockdown=integrity"), has_lab=False),
    Kernel("confidentiality", "`lockdown=confidentiality`", _parameter("lockdown=confidentiality"), has_lab=False),
    Kernel("uncleared", "`init_on_alloc=0`: new memory keeps old words", _parameter("init_on_alloc=0")),
    Kernel("unmerged", "`slab_nomerge`", _parameter("slab_nomerge")),
    Kernel("4-level", "`no5lvl`: addresses of 48 bits", _parameter("no5lvl")),
    Kernel("1-cpu", "one processor", ("--cpus=1",)),
    Kernel("8-cpus", "eight processors", ("--cpus=8",)),
    Kernel("no-fentry", "without ftrace", _build("no-fentry")),
    Kernel("no-kprobes", "without ftrace and kprobes", _build("no-kprobes")),
    Kernel("small", "without types of modules, memory cgroups, SLUB_DEBUG", _build("small")),
    Kernel("rt", "PREEMPT_RT", _build("rt")),
    Kernel("kasan", "KASAN", _build("kasan")),
)
