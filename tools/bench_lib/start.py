# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `start`: from the command to the first event, and from Ctrl-C to the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench_lib import processes
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target
from bench_lib.tracers import Tracer, TracerFailed, kleaktrace, memleak, tracing, tried

_HOW = (
    "Start: from the command to the time the document gives as the window's start, from which on events are recorded. "
    "First: nothing compiled is kept from another start. "
    "End: from SIGINT to the end of the process, its report written; after {seconds:g} s of an otherwise idle machine, "
    "and with the sockets load before. memleak: until it says that it is attached, and its end without a report."
)
_TARGET_START, _TARGET_END = Target(1.0), Target(0.5)


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    tracer: Tracer
    loaded: bool


def measure(bench: Bench) -> Part:
    """Run the part."""
    seconds = bench.seconds(1.0, 0.2)
    ours, peer = kleaktrace(), tried(memleak(), bench.directory)
    first = replace(ours, environment=(("XDG_CACHE_HOME", "{directory}"),))
    with tracing(ours, bench.directory):
        pass  # now its programs are kept, if they can be here
    starts: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {}
    for case in bench.alternate(
        "start",
        [
            _Case("kleaktrace, first", first, False),
            _Case("kleaktrace, idle", ours, False),
            _Case("kleaktrace, after load", ours, True),
            *([] if peer.missing else [_Case("memleak", peer, False)]),
        ],
    ):
        with tracing(case.tracer, bench.directory) as running:
            busy.setdefault(case.name, []).append(processes.cpu_s(running.pid))
            if case.loaded:
                bench.loads.run("flat", seconds)
            ready_s = running.ready_after_s
            running.end()
            if case.tracer is not peer:
                ready_s = running.window_start_s - running.started_s
        if running.ended_after_s is None:
            raise TracerFailed(f"{case.name} did not end")
        starts.setdefault(case.name, []).append(ready_s)
        ends.setdefault(case.name, []).append(running.ended_after_s)
    found = [
        Figure(f"{name}: start", "s", of, None if name == "memleak" else _TARGET_START) for name, of in starts.items()
    ]
    found += [Figure(f"{name}: start, processor time", "s", of) for name, of in busy.items()]
    found += [Figure(f"{name}: end", "s", of, None if name == "memleak" else _TARGET_END) for name, of in ends.items()]
    if peer.missing:
        found.append(Figure("memleak", "s", (), note=f"not available: {peer.missing}"))
    return Part("start", _HOW.format(seconds=seconds), found)
