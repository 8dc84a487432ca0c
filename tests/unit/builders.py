# SPDX-License-Identifier: GPL-2.0-or-later
"""Small kernels to test with: rows of events, symbols, modules, and a history with what kmemleak says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.loss import Frees, Loss, LossWindow
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind, hide
from kleaktrace.core.evidence.evidence import Evidence, JudgedSuspect
from kleaktrace.core.evidence.rounds import RoundSeries
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import ELF_SYMBOL, ModuleImage, TextRange, parse_kallsyms
from kleaktrace.core.verdicts.rules import judge, open_questions

SECOND = 1_000_000_000
HZ = 250

START_NS = 1_000 * SECOND
START_JIFFIES = (1 << 32) + 50_000

KERNEL_TEXT = {
    "startup_64": 0xFFFFFFFF81000000,
    "__kmalloc_noprof": 0xFFFFFFFF81001000,
    "kfree": 0xFFFFFFFF81002000,
    "do_one_initcall": 0xFFFFFFFF81003000,
    "core_alloc": 0xFFFFFFFF81004000,
    "core_free": 0xFFFFFFFF81005000,
    "vmalloc_noprof": 0xFFFFFFFF81006000,
    "__get_vm_area_node": 0xFFFFFFFF81007000,
    "kthread": 0xFFFFFFFF81008000,
    "handle_softirqs": 0xFFFFFFFF81009000,
    "__vmalloc_node_range_noprof": 0xFFFFFFFF8100A000,
    "kobject_set_name_vargs": 0xFFFFFFFF8100B000,
    "kobject_add": 0xFFFFFFFF8100C000,
    "kobject_create_and_add": 0xFFFFFFFF8100D000,
    "alloc_vmap_area": 0xFFFFFFFF8100E000,
    "__alloc_skb": 0xFFFFFFFF8100F000,
    "kernfs_new_node": 0xFFFFFFFF81010000,
    "debugfs_create_dir": 0xFFFFFFFF81011000,
    "_etext": 0xFFFFFFFF81012000,
}
DRIVER = 0xFFFFFFFFC0100000
DRIVER_TEXT = {"drv_probe": 0x0, "drv_work": 0x100, "drv_free": 0x200}
FULL_COVERAGE = (
    Coverage(CoverageKind.KMALLOC, "raw_tracepoint:kmalloc"),
    Coverage(CoverageKind.KFREE, "raw_tracepoint:kfree"),
    Coverage(CoverageKind.SLAB_BULK_FREE, "fentry:kmem_cache_free_bulk"),
    Coverage(CoverageKind.VMALLOC, "fexit:__vmalloc_node_range_noprof"),
    Coverage(CoverageKind.VFREE, "fentry:vfree"),
    Coverage(CoverageKind.PERCPU, "raw_tracepoint:percpu_alloc_percpu"),
)


def rows(dtype: np.dtype, *events: Mapping[str, object]) -> np.ndarray:
    """Rows of the fields given; the others are 0."""
    made = np.zeros(len(events), dtype)
    for row, event in zip(made, events, strict=True):
        for name, value in event.items():
            row[name] = value
    return made


def kallsyms(functions: Mapping[str, int], module: str = "") -> bytes:
    tail = f"\t[{module}]" if module else ""
    return "".join(f"{address:016x} T {name}{tail}\n" for name, address in functions.items()).encode()


def elf_tables(functions: Sequence[tuple[str, int]], info: int = 2) -> tuple[bytes, bytes]:
    """Symbol and string table of functions (name, address), as a module brings them."""
    strings, symbols = b"\0", np.zeros(len(functions), ELF_SYMBOL)
    for symbol, (name, address) in zip(symbols, functions, strict=True):
        symbol["name"], symbol["value"], symbol["info"] = len(strings), address, info
        strings += name.encode() + b"\0"
    return symbols.tobytes(), strings


def module_image(
    name: str = "drv",
    base: int = DRIVER,
    functions: Mapping[str, int] = DRIVER_TEXT,
    loaded_ns: int = START_NS,
    key: int = 0xFFFFFFFFC0200000,
    length: int = 0x1000,
    init: tuple[int, int] = (0, 0),
) -> ModuleImage:
    """A module; `functions` maps names to offsets from its base."""
    image = ModuleImage(name, key, loaded_ns, TextRange(base, length), TextRange(*init))
    image.set_symbols(*elf_tables([(function, base + offset) for function, offset in functions.items()]))
    return image


def kernel_names() -> KernelNames:
    return KernelNames(parse_kallsyms(kallsyms(KERNEL_TEXT)))


def inside(function: str, offset: int = 0x22) -> int:
    """A return address inside a function of the kernel or of the driver."""
    known = {**KERNEL_TEXT, **{name: DRIVER + at for name, at in DRIVER_TEXT.items()}}
    return known[function] + offset


def jiffies_at(seconds: float) -> int:
    """All 64 bits of the tick count, so many seconds after the start."""
    return START_JIFFIES + round(seconds * HZ)


class Scene:
    """What happened from `START_NS` on (times in seconds from there), and what can be said about it.

    The driver is loaded at 0. Stack 1 is the driver's own allocation, stack 2 one by core code for the driver,
    stack 3 one by core code, stack 4 vmalloc's bookkeeping below the driver, stack 5
    what vmalloc takes from itself, and stack 6 the driver's own vmalloc.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self.ledger = Ledger()
        self.names = kernel_names()
        self.names.symbols.module_loaded(module_image())
        for key, frames in enumerate(
            (
                ("__kmalloc_noprof", "drv_probe", "do_one_initcall"),
                ("__kmalloc_noprof", "core_alloc", "drv_probe", "do_one_initcall"),
                ("__kmalloc_noprof", "core_alloc", "kthread"),
                ("__kmalloc_noprof", "__get_vm_area_node", "vmalloc_noprof", "drv_probe"),
                ("__vmalloc_node_range_noprof", "__vmalloc_node_range_noprof", "vmalloc_noprof", "drv_probe"),
                ("__vmalloc_node_range_noprof", "vmalloc_noprof", "drv_probe"),
            ),
            start=1,
        ):
            self.names.stacks.add(key, [inside(frame) for frame in frames])
        self.seconds = seconds
        self.losses: list[LossWindow] = []
        self._sequence = 0

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def allocate(self, at_s: float, address: int, size: int = 100, **fields: object) -> None:
        row = {
            "sequence": self._next(),
            "object": hide(address),
            "time_ns": START_NS + round(at_s * SECOND),
            "jiffies": jiffies_at(at_s) % (1 << 32),
            "call_site": inside("drv_probe"),
            "stack": 1,
            "tid": 42,
            "tgid": 42,
            "comm": b"insmod",
            "bytes_req": size,
            "bytes_alloc": max(128, -(-size // 64) * 64),
            "kind": Kind.KMALLOC,
            "context": Context.TASK,
        }
        self.ledger.apply(Batch(rows(ALLOCATION, {**row, **fields}), rows(FREE)))

    def free(self, at_s: float, address: int, site: str = "core_free", kind: Kind = Kind.KMALLOC) -> None:
        row = {
            "sequence": self._next(),
            "object": hide(address),
            "time_ns": START_NS + round(at_s * SECOND),
            "call_site": inside(site) if site else 0,
            "tid": 43,
            "kind": kind,
        }
        self.ledger.apply(Batch(rows(ALLOCATION), rows(FREE, row)))

    def watch(self, address: int, *, percpu: bool = False) -> None:
        self.ledger.watch([hide(address)], percpu)

    def lose(self, from_s: float, to_s: float, events: int = 7, frees: Frees | None = None) -> None:
        window = LossWindow(START_NS + round(from_s * SECOND), START_NS + round(to_s * SECOND), events, frees)
        self.losses.append(window)
        self.ledger.note_loss(window)

    def unload(self, at_s: float, module: str = "drv") -> None:
        self.names.symbols.module_freed(module, 0xFFFFFFFFC0200000, START_NS + round(at_s * SECOND))

    def evidence(
        self,
        *readings: Sequence[Suspect],
        coverage: Sequence[Coverage] = FULL_COVERAGE,
        tracked: Callable[[int, int], bool | None] | None = None,
        watched_s: float = 0.0,
        series: Sequence[RoundSeries] = (),
        alive: frozenset[int] = frozenset(),
        processors: int = 2,
    ) -> Evidence:
        end = Moment(START_NS + round(self.seconds * SECOND), jiffies_at(self.seconds))
        evidence = Evidence(
            self.ledger,
            self.names,
            JiffiesClock(Moment(START_NS, START_JIFFIES), end),
            Loss(sum(w.events for w in self.losses), windows=tuple(self.losses)),
            coverage,
            readings,
            watched_s=watched_s,
            series=series,
            alive=alive,
            processors=processors,
        )
        if tracked is not None:
            answers = {question: tracked(question.address, question.kind) for question in open_questions(evidence)}
            evidence = replace(evidence, answers={q: answer for q, answer in answers.items() if answer is not None})
        return evidence

    def judge(self, *readings: Sequence[Suspect], **known: Any) -> list[JudgedSuspect]:
        """What becomes of it all; `known` as for `evidence`."""
        return judge(self.evidence(*readings, **known))


def suspect(at_s: float, address: int, size: int = 128, **fields: object) -> Suspect:
    """An object that kmemleak lists, allocated so many seconds after the start."""
    known: dict[str, object] = {
        "address": address,
        "size": size,
        "kind": "slab",
        "comm": "insmod",
        "pid": 42,
        "jiffies": jiffies_at(at_s),
        "age_s": None,
        "crc": 0x1234,
        "frames": (KmemleakFrame(address=0xFFFFFFFFC0100022),),
    }
    return Suspect(**{**known, **fields})  # type: ignore[arg-type]
