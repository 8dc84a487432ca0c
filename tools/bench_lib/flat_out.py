# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `flat-out`: every processor allocates as fast as it can; is anything lost, and what does keeping up take."""

from __future__ import annotations

import time

from bench_lib import processes
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target
from bench_lib.loads import finished
from bench_lib.tracers import kleaktrace, tracing

_HOW = (
    "The sockets load on every processor for {seconds:.0f} s under kleaktrace trace. Events and loss by its own "
    "document; processor time of its process from /proc, from attached probes to the end of the load."
)


def measure(bench: Bench) -> Part:
    """Run the part."""
    seconds = bench.seconds(60.0, 3.0)
    bench.say(f"flat-out: {seconds:.0f} s")
    with tracing(kleaktrace(), bench.directory) as running:
        begun_s, begun_cpu_s = time.monotonic(), processes.cpu_s(running.pid)
        turns = finished(bench.loads.start("flat", seconds))
        share = (processes.cpu_s(running.pid) - begun_cpu_s) / (time.monotonic() - begun_s)
        memory = processes.resident_bytes(running.pid)
        running.end()
        document = running.document()
    totals, loss, window = document["totals"], document["loss"], document["window"]["seconds"]
    events = totals["allocations"] + totals["frees"]
    found = [
        Figure("events", "M/s", [events / window / 1e6]),
        Figure("lost events", "", [loss["events"]], Target(0)),
        Figure("lost stacks", "", [loss["stacks"]], Target(0)),
        Figure("front end", "% of a core", [100 * share], Target(15)),
        Figure("front end, each event", "ns", [1e9 * share * window / events]),
        Figure("front end, anonymous memory", "MiB", [memory / 2**20]),
        Figure("load", "ns/turn", [turns.cpu_ns_each]),
    ]
    return Part("flat-out", _HOW.format(seconds=seconds), found, {"totals": totals, "loss": loss, "window_s": window})
