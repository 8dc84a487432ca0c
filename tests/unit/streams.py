# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings of random streams of allocations: churn, bursts and leaks, each by a call stack of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from builders import FULL_COVERAGE, HZ, KERNEL_TEXT, SECOND, START_JIFFIES, START_NS, kallsyms
from recordings import HEAP, KERNEL, STARTED

from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind, hide
from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.recording import Recording
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms

FUNCTIONS = 0xFFFFFFFF80000000
KASLR = 0x2000000


@dataclass(frozen=True)
class Stream:
    """Births and lives in seconds, one element an allocation; `inf`: it is never freed."""

    births: Any
    lives: Any
    size: int = 128


def churn(per_second: float, life_s: float) -> Callable[[np.random.Generator, float], Stream]:
    """Independent allocations, each freed after a while."""

    def made(random: np.random.Generator, seconds: float) -> Stream:
        births = random.uniform(0, seconds, random.poisson(per_second * seconds))
        return Stream(births, random.exponential(life_s, births.size))

    return made


def bursts(per_second: float, size: int) -> Callable[[np.random.Generator, float], Stream]:
    """Now and then a great many at once, which stay."""

    def made(random: np.random.Generator, seconds: float) -> Stream:
        starts = random.uniform(0, seconds, random.poisson(per_second * seconds))
        births = np.repeat(starts, random.geometric(1 / size, starts.size))
        return Stream(births + random.uniform(0, 0.01, births.size), np.full(births.size, np.inf))

    return made


def leak(per_second: float, size: int = 128) -> Callable[[np.random.Generator, float], Stream]:
    """Independent allocations that are never freed."""

    def made(random: np.random.Generator, seconds: float) -> Stream:
        births = random.uniform(0, seconds, random.poisson(per_second * seconds))
        return Stream(births, np.full(births.size, np.inf), size)

    return made


Processes = Mapping[str, Callable[[np.random.Generator, float], Stream]]


def function_names(processes: Processes, slide: int = 0, offset: int = 0x22) -> KernelNames:
    """Each stream is allocated by a function of its name, whose address is `slide` further on than in another boot."""
    functions = {name: FUNCTIONS + slide + number * 0x100 for number, name in enumerate(sorted(processes))}
    end = {"end_of_text": FUNCTIONS + slide + len(functions) * 0x100}
    names = KernelNames(parse_kallsyms(kallsyms({**KERNEL_TEXT, **functions, **end})))
    for number, name in enumerate(sorted(processes)):
        names.stacks.add(number + 1, [functions[name] + offset, KERNEL_TEXT["kthread"] + 0x22])
    return names


def streamed(processes: Processes, seed: int, seconds: float = 60.0, **known: Any) -> Recording:
    """What a session of so many seconds has recorded of them."""
    random = np.random.default_rng(seed)
    allocations, frees = [], []
    for number, name in enumerate(sorted(processes)):
        stream = processes[name](random, seconds)
        own = np.zeros(stream.births.size, ALLOCATION)
        own["time_ns"] = START_NS + (stream.births * SECOND).astype(np.uint64)
        own["stack"], own["kind"], own["context"] = number + 1, Kind.KMALLOC, Context.TASK
        own["bytes_req"] = own["bytes_alloc"] = stream.size
        own["comm"] = b"worker"
        own["object"] = hide(HEAP + (number << 32)) - np.arange(own.size, dtype=np.uint64) * np.uint64(4096)
        ends = stream.births + stream.lives
        dying = np.flatnonzero(ends < seconds)
        gone = np.zeros(dying.size, FREE)
        gone["object"], gone["kind"] = own["object"][dying], Kind.KMALLOC
        gone["time_ns"] = START_NS + (ends[dying] * SECOND).astype(np.uint64) + 1
        gone["call_site"] = KERNEL_TEXT["kfree"] + 2
        allocations.append(own)
        frees.append(gone)
    born, died = np.concatenate(allocations), np.concatenate(frees)
    order = np.argsort(np.concatenate([born["time_ns"], died["time_ns"]]), kind="stable")
    sequence = np.empty(order.size, np.uint64)
    sequence[order] = np.arange(1, order.size + 1)
    born["sequence"], died["sequence"] = sequence[: born.size], sequence[born.size :]
    ledger = Ledger()
    ledger.apply(Batch(born[np.argsort(born["sequence"])], died[np.argsort(died["sequence"])]))
    end = Moment(START_NS + round(seconds * SECOND), START_JIFFIES + round(seconds * HZ))
    return Recording(
        **{
            "ledger": ledger,
            "names": function_names(processes),
            "clock": JiffiesClock(Moment(START_NS, START_JIFFIES), end),
            "loss": Loss(),
            "coverage": FULL_COVERAGE,
            "kernel": KERNEL,
            "started": STARTED,
            "history": LevelHistory(),
            **known,
        }
    )
