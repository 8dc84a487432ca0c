# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `long`: does memory stay flat and the cost the same over minutes of changing load."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench_lib import processes
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target
from bench_lib.loads import LOADS
from bench_lib.tracers import kleaktrace, tracing

_LOAD_S = 3.0
_FLAT = Target(1.1)
_HOW = (
    "All loads in turn, {seconds:g} s each, for {minutes:g} minutes under one kleaktrace trace. The last quarter by "
    "the first: medians of its anonymous memory after each turn of the loads, of its processor time, and of the time "
    "of a load's turn (values: each load). What it holds is to be found in memory: where frees in bulk are not seen, "
    "ever more allocations are outstanding, at {bytes_each} bytes each. These are taken off for the figures that have "
    "to stay the same; what has a bound, as the history of endings, is filled in the first quarter."
)
_BYTES_EACH = 64
_OUTSTANDING = re.compile(r"frees, ([0-9,]+) outstanding \(")


@dataclass(frozen=True, slots=True)
class _Cycle:
    """One turn of all loads."""

    memory: int
    outstanding: int
    share: float
    cpu_ns_each: dict[str, float]


def measure(bench: Bench, minutes: float) -> Part:
    """Run the part."""
    cycles: list[_Cycle] = []
    with tracing(kleaktrace(), bench.directory) as running:
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end or len(cycles) < 4:
            bench.say(f"long: {max(end - time.monotonic(), 0) / 60:.1f} minutes left")
            begun, begun_cpu = time.monotonic(), processes.cpu_s(running.pid)
            costs = {kind: bench.loads.run(kind, bench.seconds(_LOAD_S, 0.3)).cpu_ns_each for kind in LOADS}
            share = (processes.cpu_s(running.pid) - begun_cpu) / (time.monotonic() - begun)
            outstanding = _last_outstanding(running.said())
            cycles.append(_Cycle(processes.resident_bytes(running.pid), outstanding, share, costs))
        running.end()
        document = running.document()
    quarter = len(cycles) // 4
    first, second, last = cycles[:quarter], cycles[quarter : 2 * quarter], cycles[-quarter:]
    found = [
        Figure("outstanding, first quarter", "", [cycle.outstanding for cycle in first]),
        Figure("outstanding, last quarter", "", [cycle.outstanding for cycle in last]),
        Figure("memory, last quarter", "MiB", [cycle.memory / 2**20 for cycle in last]),
        Figure("memory, last quarter by first", "×", [_memory(last) / _memory(first)]),
        Figure("without what is outstanding, last quarter by first", "×", [_rest(last) / _rest(first)], _FLAT),
        Figure("without what is outstanding, last quarter by second", "×", [_rest(last) / _rest(second)], _FLAT),
        Figure("front end, last quarter", "% of a core", [100 * cycle.share for cycle in last]),
        Figure("front end, last quarter by first", "×", [_share(last) / _share(first)], _FLAT),
        Figure("load, last quarter by first", "×", [_cost(last, kind) / _cost(first, kind) for kind in LOADS], _FLAT),
        Figure("lost events", "", [document["loss"]["events"]], Target(0)),
    ]
    raw = {"cycles": [asdict(cycle) for cycle in cycles], "loss": document["loss"], "totals": document["totals"]}
    how = _HOW.format(seconds=bench.seconds(_LOAD_S, 0.3), minutes=minutes, bytes_each=_BYTES_EACH)
    return Part("long", how, found, raw)


def _last_outstanding(said: str) -> int:
    """How many allocations were outstanding when the trace last said so."""
    counts: list[str] = _OUTSTANDING.findall(said)
    return int(counts[-1].replace(",", "")) if counts else 0


def _memory(cycles: Sequence[_Cycle]) -> float:
    return statistics.median(cycle.memory for cycle in cycles)


def _rest(cycles: Sequence[_Cycle]) -> float:
    return statistics.median(cycle.memory - _BYTES_EACH * cycle.outstanding for cycle in cycles)


def _share(cycles: Sequence[_Cycle]) -> float:
    return statistics.median(cycle.share for cycle in cycles)


def _cost(cycles: Sequence[_Cycle], kind: str) -> float:
    return statistics.median(cycle.cpu_ns_each[kind] for cycle in cycles)
