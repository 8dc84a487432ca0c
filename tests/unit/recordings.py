# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings to report: of a scene, of as many stacks as one likes, and of names that mean harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from builders import HZ, KERNEL_TEXT, SECOND, START_JIFFIES, START_NS, Scene, kallsyms, suspect

from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind, hide
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Kernel, Report
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms

KERNEL = Kernel("6.12.0-made-up", "x86_64")
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HEAP = 0xFFFF888100000000

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    '"><img/src=x/onerror=alert(1)>',
    "<!--<script>",
    "&lt;b&gt;'`${alert(1)}",
    "\x1b[2J\x1b]0;owned\x07",
    "evil\u202etxt.exe",
    "]]>\u2028\u2029",
    "__proto__",
    "x" * 4096,
)
"""Names without blanks, as symbols cannot have them."""


def scene_recording(scene: Scene, *readings: Sequence[Any], **fields: Any) -> Recording:
    """All that a scene tells, and its evidence."""
    evidence = scene.evidence(*readings)
    known = {name: getattr(evidence, name) for name in evidence.__dataclass_fields__}
    history = fields.pop("history", None) or LevelHistory()
    return Recording(**{**known, "kernel": KERNEL, "started": STARTED, "history": history, **fields})


def judged(recording: Recording) -> tuple[Recording, Report]:
    return recording, recording.report(recording.judge())


def one_leak() -> tuple[Recording, Report]:
    """Of six objects by drv_probe five were freed, and kmemleak lists the sixth."""
    scene, history = Scene(), LevelHistory()
    for second in range(12):
        history.sample(START_NS + second * SECOND, scene.ledger.snapshot())
        if second < 6:
            scene.allocate(second, HEAP + second * 0x1000)
        if 0 < second < 6:
            scene.free(second + 0.5, HEAP + second * 0x1000, "drv_free")
    scene.allocate(20, HEAP + 0x100000, 4000, stack=3, comm=b"kthreadd", bytes_alloc=4096)
    listed = [suspect(0, HEAP)]
    return judged(scene_recording(scene, listed, listed, watched_s=12.0, history=history))


def nothing() -> tuple[Recording, Report]:
    return judged(scene_recording(Scene()))


def many_stacks(count: int, functions: int = 4000, depth: int = 16) -> tuple[Recording, Report]:
    """So many different stacks, with some objects each, most of them freed."""
    random = np.random.default_rng(1)
    names = {f"function_{number:04}": 0xFFFFFFFF80000000 + number * 0x100 for number in range(functions)}
    made = KernelNames(parse_kallsyms(kallsyms({**KERNEL_TEXT, **names})))
    addresses = np.array(list(names.values())) + 0x22
    for key in range(1, count + 1):
        # Outer frames are few: that is how a kernel's stacks are.
        width = (functions ** (np.arange(depth, 0, -1) / depth)).astype(np.intp)
        frames = addresses[random.integers(0, np.maximum(width, 3))]
        made.stacks.add(key, frames.tolist())
    return judged(_counted(made, random, np.arange(1, count + 1, dtype=np.uint64)))


def _counted(names: KernelNames, random: np.random.Generator, keys: Any) -> Recording:
    ledger, history = Ledger(), LevelHistory()
    seconds = 40
    for second in range(seconds):
        chosen = keys if second == 0 else random.choice(keys, keys.size // 4)
        allocations = np.zeros(chosen.size, ALLOCATION)
        allocations["object"] = hide(HEAP) - np.arange(chosen.size, dtype=np.uint64) * 64 - second * keys.size * 64
        allocations["time_ns"] = START_NS + second * SECOND + np.arange(chosen.size)
        allocations["sequence"] = np.arange(chosen.size)
        allocations["stack"], allocations["kind"] = chosen, Kind.KMALLOC
        allocations["bytes_req"] = allocations["bytes_alloc"] = 2 ** random.integers(3, 12, chosen.size)
        allocations["context"], allocations["comm"] = Context.TASK, b"worker"
        dying = np.flatnonzero(random.random(chosen.size) < 0.8)
        frees = np.zeros(dying.size, FREE)
        frees["object"], frees["kind"] = allocations["object"][dying], Kind.KMALLOC
        frees["time_ns"] = allocations["time_ns"][dying] + random.exponential(1e8, dying.size).astype(np.uint64)
        frees["sequence"], frees["call_site"] = chosen.size + np.arange(dying.size), KERNEL_TEXT["kfree"] + 2
        ledger.apply(Batch(allocations, frees))
        history.sample(START_NS + second * SECOND, ledger.snapshot())
    end = Moment(START_NS + seconds * SECOND, START_JIFFIES + seconds * HZ)
    return Recording(
        ledger=ledger,
        names=names,
        clock=JiffiesClock(Moment(START_NS, START_JIFFIES), end),
        loss=Loss(),
        coverage=(),
        kernel=KERNEL,
        started=STARTED,
        history=history,
    )


def hostile() -> tuple[Recording, Report]:
    """Every name is one of HOSTILE: functions, modules, tasks; and each of them leaks."""
    scene = Scene()
    base = 0xFFFFFFFF90000000
    table = b"".join(
        f"{base + number * 0x100:016x} T {name}\t[{name}]\n".encode()
        for number, name in enumerate(HOSTILE)
        if not any(c in name for c in "\n\t")
    )
    end = kallsyms({"end_of_text": base + len(HOSTILE) * 0x100})
    scene.names = KernelNames(parse_kallsyms(kallsyms(KERNEL_TEXT) + table + end))
    listed = []
    for number, name in enumerate(HOSTILE):
        key = 10 + number
        scene.names.stacks.add(key, [base + number * 0x100 + 2, KERNEL_TEXT["kthread"] + 2])
        comm = name.encode()[:15]
        scene.allocate(number, HEAP + number * 0x1000, stack=key, comm=comm)
        listed.append(suspect(number, HEAP + number * 0x1000, comm=name[:15]))
    return judged(scene_recording(scene, listed, listed, watched_s=12.0))


CASES: dict[str, Callable[[], tuple[Recording, Report]]] = {
    "nothing": nothing,
    "one leak": one_leak,
    "hostile": hostile,
}
