# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `capture`: what it costs to keep what is learned, and every event, and how much room it takes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_lib import processes
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target
from bench_lib.loads import finished
from bench_lib.tracers import Running, Tracer, kleaktrace, recorder, tracing

_ALLOCATIONS_PER_S = 50_000
_HOW = (
    "The paced load, {seconds:g} s, under a trace, a trace with --capture, and a recorder of every event. More of a "
    "core: processor time of the tracer less that of the trace in the same round, as if there had been {rate:,} "
    "allocations a second. Room an hour: of what was added while the load ran; an event is an allocation or a free."
)
_CAPTURE = "{directory}/capture"
_MARGIN_S = 1.5
"""Of the load, before and after what is measured: the first to see a stack has more to do."""


def measure(bench: Bench) -> Part:
    """Run the part."""
    alone = kleaktrace()
    kept = kleaktrace("--capture", _CAPTURE, name="--capture")
    events = recorder("-o", _CAPTURE, "--events", name="--events")
    seconds = bench.seconds(10, 1)
    traced: dict[str, list[_Traced]] = {}
    for tracer in bench.alternate("capture", [alone, kept, events]):
        traced.setdefault(tracer.name, []).append(_under(tracer, bench, seconds))
    per_s = [each.allocations_per_s for each in traced[alone.name]]
    found = [
        Figure("allocations", "/s", per_s),
        Figure("trace: front end", "% of a core", [100 * each.share for each in traced[alone.name]]),
    ]
    for tracer in (kept, events):
        more = [
            100 * (each.share - without.share) * _ALLOCATIONS_PER_S / rate
            for each, without, rate in zip(traced[tracer.name], traced[alone.name], per_s, strict=True)
        ]
        found.append(Figure(f"{tracer.name}: more", "% of a core", more, Target(2)))
    found.append(Figure("--capture: room", "MB/h", [each.bytes_per_s * 3600 / 1e6 for each in traced[kept.name]]))
    each_event = [each.bytes_per_s / (2 * rate) for each, rate in zip(traced[events.name], per_s, strict=True)]
    found.append(Figure("--events: room", "B/event", each_event, Target(12)))
    raw = {name: [asdict(each) for each in rounds] for name, rounds in traced.items()}
    return Part("capture", _HOW.format(seconds=seconds, rate=_ALLOCATIONS_PER_S), found, raw)


@dataclass(frozen=True, slots=True)
class _Traced:
    """What a tracer did while the load ran. share: of a core."""

    share: float
    bytes_per_s: float
    allocations_per_s: float


def _under(tracer: Tracer, bench: Bench, seconds: float) -> _Traced:
    with tracing(tracer, bench.directory) as running:
        load = bench.loads.start("paced", seconds + 2 * _MARGIN_S, warm_up_s=0)
        time.sleep(_MARGIN_S)
        begun, size = processes.exact_cpu_s(running.pid), _size(running)
        time.sleep(seconds)
        share, grown = (processes.exact_cpu_s(running.pid) - begun) / seconds, _size(running) - size
        loaded_s = finished(load).wall_ns / 1e9
        running.end()
        document = running.document() if (running.directory / "trace.json").exists() else None
    return _Traced(share, grown / seconds, document["totals"]["allocations"] / loaded_s if document else 0.0)


def _size(running: Running) -> int:
    directory = Path(running.directory, "capture")
    return sum(file.stat().st_size for file in directory.iterdir()) if directory.is_dir() else 0
