# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `ledger`: how fast events are entered and what an outstanding allocation takes, by how many there are."""

from __future__ import annotations

import statistics
from typing import Any

from bench_lib import workers
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target, quotients

_SIZES = {"10 k": 10_000, "1 M": 1_000_000, "10 M": 10_000_000}
_SHORT_SIZES = {"10 k": 10_000, "100 k": 100_000}
_BATCHES = 40

_HOW = (
    "Ledger.apply on batches of 65,536 made-up events in a process of its own, median of 40 batches each round, by "
    "processor time: half allocations, 1,000 stacks (Zipf), nine in ten freed within twenty allocations, the others "
    "take the place of one that was long outstanding. Bytes: what the ledger counts, and what the process grew by "
    "while the ledger filled. The ring is not in it: part flat-out has both."
)


def measure(bench: Bench) -> Part:
    """Run the part."""
    sizes = _SHORT_SIZES if bench.short else _SIZES
    done: dict[str, list[Any]] = {}
    for name in bench.alternate("ledger", list(sizes)):
        done.setdefault(name, []).append(workers.run("ledger", sizes[name], _BATCHES))
    speeds = {name: [statistics.median(one["events_per_s"]) / 1e6 for one in of] for name, of in done.items()}
    found = [
        Figure(f"{name} outstanding", "M events/s", of, Target(10, at_least=True) if name == "1 M" else None)
        for name, of in speeds.items()
    ]
    least, *_, most = sizes
    found.append(Figure(f"{least} by {most}", "×", quotients(speeds[least], speeds[most]), Target(1.5)))
    for name, of in done.items():
        if sizes[name] >= 100_000:  # below, it is the books of the stacks that count
            found.append(Figure(f"{name} outstanding", "bytes/object", [_each(one, "bytes") for one in of], Target(64)))
            found.append(Figure(f"{name}, grown by", "bytes/object", [_each(one, "resident") for one in of]))
    return Part("ledger", _HOW, found, done)


def _each(one: Any, key: str) -> float:
    return float(one[key] / one["outstanding"])
