# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings to export: one with everything in it, one of nothing, and one full of hostile names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from builders import DRIVER, FULL_COVERAGE, SECOND, START_JIFFIES, START_NS, Scene, jiffies_at, module_image, suspect

from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.loss import Loss, LostEvents
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.machine.unexplained_memory import MissingMemory, Unexplained
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import CommandResult, Kernel
from kleaktrace.views.exports.material import Material, material

A, B, C, D = (0xFFFF888100010000 + number * 0x10000 for number in range(4))
MANY = 0xFFFF888200000000

EVIL_NAME = 'a;b#c "<&>{}\\\x1b[2J\nnot ok 9 x\r# EOF'
EVIL_COMM = b'\x1b]0;x\x07<&"\n#;'


def recording(scene: Scene, **known: object) -> Recording:
    """What a session has that saw this scene."""
    end = Moment(START_NS + round(scene.seconds * 1e9), jiffies_at(scene.seconds))
    return Recording(
        **{
            "kernel": Kernel("6.12.0", "x86_64"),
            "started": datetime(2026, 1, 1, tzinfo=UTC),
            "clock": JiffiesClock(Moment(START_NS, START_JIFFIES), end),
            "ledger": scene.ledger,
            "names": scene.names,
            "history": LevelHistory(),
            "loss": Loss(sum(w.events for w in scene.losses), windows=tuple(scene.losses)),
            "coverage": FULL_COVERAGE,
            **known,
        }  # type: ignore[arg-type]
    )


def everything() -> Recording:
    """Two objects leaked at one place, one is undecided, many grow, one was freed, and one has no stack."""
    scene, history = Scene(), LevelHistory()
    scene.allocate(1, A)
    scene.allocate(1.5, B)
    scene.allocate(2, C, stack=2)
    scene.allocate(2.5, D, size=5000, stack=0)
    scene.allocate(3, D + 0x8000, size=300)
    scene.free(4, D + 0x8000)
    for number in range(60):
        scene.allocate(0.05 * number, MANY + 256 * number, stack=3)
        history.sample(START_NS + round(0.05 * number * SECOND), scene.ledger.snapshot())
    scene.unload(5)
    listed = [suspect(1, A), suspect(1.5, B)]
    return recording(
        scene,
        kernel=Kernel("6.12.0", "x86_64", "lab"),
        history=history,
        readings=[[], listed, listed],
        command=CommandResult(("true",), 0),
        growth_windows=[(START_NS, START_NS + 3 * SECOND)],
        missing=[Unexplained(MissingMemory.PAGES, 20 << 20, "pages that no counter knows")],
    )


def nothing() -> Recording:
    """No event, no suspect."""
    return recording(Scene())


def with_losses() -> Recording:
    """The same, but events were lost."""
    scene = Scene()
    scene.lose(1, 2)
    lost = recording(scene)
    return replace(lost, loss=replace(lost.loss, stacks=2, names=1, causes=(LostEvents("events in the rings", 7),)))


def hostile() -> Recording:
    """Names of functions, a module and a task that would break any format that does not escape them."""
    scene = Scene()
    base = DRIVER + 0x10000
    scene.names.symbols.module_loaded(
        module_image('m]"\x1b<', base, {EVIL_NAME: 0, "plain": 0x100}, key=0xFFFFFFFFC0300000)
    )
    scene.names.stacks.add(7, [base + 0x22, base + 0x122])
    scene.allocate(1, A, stack=7, comm=EVIL_COMM)
    listed = [suspect(1, A, comm=EVIL_COMM.decode())]
    return recording(scene, readings=[[], listed, listed], gaps=["a gap\nnot ok 1 forged", "another # EOF"])


def huge() -> Recording:
    """One allocation of half the address space, as only a forged capture tells of."""
    scene = Scene()
    scene.allocate(1, A, bytes_req=1 << 62, bytes_alloc=1 << 62)
    scene.allocate(2, B, bytes_req=(1 << 62) + 5, bytes_alloc=(1 << 62) + 5)
    return recording(scene)


def exported(made: Recording) -> Material:
    """What the formats are given."""
    return material(made)
