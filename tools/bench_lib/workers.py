# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurements of the pure core, each in a process of its own: memory is then its own as well.

    python -m bench_lib.workers ledger OUTSTANDING BATCHES
    python -m bench_lib.workers judge SUSPECTS OUTSTANDING
    python -m bench_lib.workers parse BYTES plain|unique

Prints one line of JSON. Times are processor time in s.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench_lib import processes
from bench_lib.tracers import PROJECT
from kleaktrace.core.events.clock import JiffiesClock, Moment
from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import hide
from kleaktrace.core.evidence.evidence import Evidence
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.report_parser import Suspect, parse
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms
from kleaktrace.core.verdicts.rules import judge

BATCH_EVENTS = 1 << 16
_HZ, _TICK_NS = 250, 4_000_000
_READINGS = 3
_FRAMES = 10
_TEXT = 0xFFFFFFFF81000000


def run(*arguments: object) -> Any:
    """Run one of these in a process of its own; what it prints."""
    command = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
    path = os.pathsep.join(str(PROJECT / place) for place in ("tools", "tests/unit"))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _event_load(outstanding: int) -> Any:
    # The unit tests' own.
    return importlib.import_module("event_load").EventLoad(outstanding)


def ledger(outstanding: int, batches: int) -> dict[str, Any]:
    """Events entered with so many outstanding; the events are made beforehand, a batch at a time."""
    load, books = _event_load(outstanding), Ledger()
    before = processes.resident_bytes(os.getpid())
    for batch in load.fill(BATCH_EVENTS):
        books.apply(batch)
    memory = processes.resident_bytes(os.getpid()) - before
    speeds = []
    for _ in range(batches):
        batch = load.batch(BATCH_EVENTS)
        begun = time.process_time()
        books.apply(batch)
        speeds.append(batch.size / (time.process_time() - begun))
    return {"events_per_s": speeds, "outstanding": len(books.outstanding()), "bytes": books.nbytes, "resident": memory}


def judging(suspects: int, outstanding: int) -> dict[str, Any]:
    """Verdicts on so many suspects, listed by three scans: of ten, eight are outstanding, one is unseen, one older."""
    load, books = _event_load(outstanding), Ledger()
    for batch in load.fill(BATCH_EVENTS):
        books.apply(batch)
    rows = books.outstanding()
    names = KernelNames(parse_kallsyms("".join(f"{_TEXT + 256 * n:016x} T f{n}\n" for n in range(1 << 16)).encode()))
    stacks = np.unique(rows["stack"]).tolist()
    for number, stack in enumerate(stacks):
        names.stacks.add(stack, [_TEXT + 256 * (number + 7 * depth) + 16 for depth in range(_FRAMES)])
    rows = rows[rows["kind"] < 2][:suspects]
    start, end = (
        Moment(int(at), int(at) // _TICK_NS) for at in (rows["time_ns"].min(), rows["time_ns"].max() + 60 * 10**9)
    )
    listed = [_suspect(row, number, start) for number, row in enumerate(rows)]
    evidence = Evidence(
        books,
        names,
        JiffiesClock(start, end),
        Loss(),
        (Coverage(CoverageKind.KFREE, "raw_tracepoint:kfree"),),
        [listed] * _READINGS,
    )
    begun = time.process_time()
    judged = judge(evidence)
    seconds = time.process_time() - begun
    verdicts = [str(one.verdict) for one in judged]
    return {"seconds": seconds, "verdicts": {name: verdicts.count(name) for name in sorted(set(verdicts))}}


def _suspect(row: Any, number: int, start: Moment) -> Suspect:
    address, jiffies = hide(int(row["object"])), int(row["jiffies"])
    if number % 10 == 0:
        address += 8
    elif number % 10 == 1:
        jiffies = start.jiffies - 1000 - number
    frames = tuple(KmemleakFrame(address=_TEXT + 256 * depth + 16) for depth in range(_FRAMES))
    return Suspect(
        address, int(row["bytes_alloc"]), SuspectKind.SLAB, "task", int(row["tid"]), jiffies, None, number, frames
    )


def parsing(size: int, kind: str) -> dict[str, Any]:
    """Reading a report of so many bytes, of few different stacks or with each its own."""
    one = len(report(1, kind == "unique"))
    text = report(size // one, kind == "unique")
    begun = time.process_time()
    parsed = parse(text)
    seconds = time.process_time() - begun
    return {"seconds": seconds, "bytes": len(text), "objects": len(parsed.objects), "problems": len(parsed.problems)}


def report(objects: int, unique: bool) -> str:
    """A report as 6.12 prints it."""
    return "".join(_reported(number, number if unique else number % 50) for number in range(objects))


def _reported(number: int, stack: int) -> str:
    dump = "\n".join(f"    {'%02x ' % (number % 256) * 16} ................" for _ in range(2))
    frames = "\n".join(
        f"    some_function_{stack * 7 + depth}+0x{stack % 4000:x}/0x1000 [driver]" for depth in range(_FRAMES)
    )
    return (
        f"unreferenced object 0xffff8881{number * 64 % (1 << 32):08x} (size 64):\n"
        f'  comm "insmod", pid {1000 + number % 5000}, jiffies {4294900000 + number}\n'
        f"  hex dump (first 32 bytes):\n{dump}\n  backtrace (crc {number * 2654435761 % (1 << 32):x}):\n{frames}\n"
    )


def main(arguments: Sequence[str]) -> None:
    """Run the one that was asked for."""
    which, *rest = arguments
    asked: dict[str, Callable[[], Any]] = {
        "ledger": lambda: ledger(int(rest[0]), int(rest[1])),
        "judge": lambda: judging(int(rest[0]), int(rest[1])),
        "parse": lambda: parsing(int(rest[0]), rest[1]),
    }
    print(json.dumps(asked[which]()))


if __name__ == "__main__":
    main(sys.argv[1:])
