# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `programs`: what a run of each BPF program takes, by the kernel's own statistics."""

from __future__ import annotations

from dataclasses import asdict

from bench_lib import bpf_programs
from bench_lib.bench import Bench
from bench_lib.bpf_programs import Program
from bench_lib.figures import Figure, Part
from bench_lib.tracers import kleaktrace, memleak, tracing, tried

_LOADS = ("sockets", "files", "forks", "held")  # flat is sockets again

_HOW = (
    "run_time_ns / run_cnt of each program with BPF statistics on, a value a round. "
    "Reading the clock twice a run is not in it, but slows the machine, so this is a run of its own. Of the whole "
    "machine, not the load alone. Programs below a hundredth of the tracer's time are left out."
)


def measure(bench: Bench) -> Part:
    """Run the part."""
    tracers = [kleaktrace(), tried(memleak(), bench.directory)]
    accounts: dict[tuple[str, str], list[list[Program]]] = {}
    for tracer in bench.alternate("programs", [tracer for tracer in tracers if not tracer.missing]):
        with bpf_programs.statistics(), tracing(tracer, bench.directory) as running:
            for kind in _LOADS:
                before = bpf_programs.programs(running.pid)
                bench.loads.run(kind, bench.seconds(0.7, 0.2))
                account = bpf_programs.since(before, bpf_programs.programs(running.pid))
                accounts.setdefault((kind, tracer.name), []).append(bpf_programs.named(account))
    found = [figure for (kind, name), of in sorted(accounts.items()) for figure in _figures(f"{kind}: {name}", of)]
    found += [Figure(t.name, "ns", (), note=f"not available: {t.missing}") for t in tracers if t.missing]
    raw = {f"{kind}: {name}": [[asdict(p) for p in account] for account in of] for (kind, name), of in accounts.items()}
    return Part("programs", _HOW, found, raw)


def _figures(title: str, accounts: list[list[Program]]) -> list[Figure]:
    """One figure for each program that matters: ns a run, by rounds."""
    whole = sum(program.time_ns for account in accounts for program in account)
    by_name: dict[str, list[Program]] = {}
    for account in accounts:
        for program in account:
            by_name.setdefault(program.name, []).append(program)
    found = []
    for name, of in sorted(by_name.items(), key=lambda item: -sum(p.time_ns for p in item[1])):
        if sum(program.time_ns for program in of) * 100 >= whole:
            found.append(Figure(f"{title} {name}", "ns/run", [p.time_ns / p.runs for p in of if p.runs]))
    return found
