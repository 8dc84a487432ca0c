# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `cost`: what a tracer adds to a pair of allocation and free, and that against memleak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench_lib import pair_counter
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target, differences, quotients
from bench_lib.loads import LOADS, Turns
from bench_lib.pair_counter import PerTurn
from bench_lib.tracers import NONE, exact_stacks, kleaktrace, memleak, perf, trace_cmd, tracing, tried

_HOW = (
    "Processor time of a turn of the load with a tracer, less that without, by the allocations of a turn. Each round "
    "starts every tracer once, waits until it traces, and runs all loads. × is kleaktrace by memleak, round by round."
)
_AGAINST_MEMLEAK = {"sockets": Target(0.25)}
_AGAINST_MEMLEAK_ELSE = Target(0.4)

Samples = Mapping[tuple[str, str], Sequence[Turns]]
"""By tracer and load, a value for each round."""


def measure(bench: Bench) -> Part:
    """Run the part."""
    bench.say("cost: counting allocations")
    seconds = bench.seconds(1.0, 0.2)
    per_turn = {kind: pair_counter.count(bench.loads, kind, bench.seconds(0.5, 0.2)) for kind in LOADS}
    ours, peer = kleaktrace(), tried(memleak(), bench.directory)
    everywhere = [NONE, ours, exact_stacks(), peer]
    recorders = [tried(tracer, bench.directory) for tracer in (perf(), trace_cmd())]
    tracers = [tracer for tracer in (*everywhere, *recorders) if not tracer.missing]
    samples: dict[tuple[str, str], list[Turns]] = {}
    for tracer in bench.alternate("cost", tracers):
        with tracing(tracer, bench.directory):
            # Recorders fill the disk: one load is enough of them.
            for kind in LOADS[:1] if tracer in recorders else LOADS:
                samples.setdefault((tracer.name, kind), []).append(bench.loads.run(kind, seconds))
    found = [figure for kind in LOADS for figure in of_load(kind, samples, per_turn[kind])]
    found += [
        Figure(f"{LOADS[0]}: {tracer.name} adds", "ns/pair", (), note=f"not available: {tracer.missing}")
        for tracer in (*everywhere, *recorders)
        if tracer.missing
    ]
    return Part("cost", _HOW, found, _raw(samples, per_turn))


def of_load(kind: str, samples: Samples, per_turn: PerTurn) -> list[Figure]:
    """The figures of one load, from the rounds of all tracers that ran it."""
    each = {tracer: [turns.cpu_ns_each for turns in of] for (tracer, of_kind), of in samples.items() if of_kind == kind}
    note = f"{per_turn.pairs:.1f} pairs a turn"
    if per_turn.pages > 0.05:
        note += f", and {per_turn.pages:.1f} pages, which memleak traces too"
    added = {name: differences(of, each[NONE.name], per_turn.pairs) for name, of in each.items() if name != NONE.name}
    return [
        Figure(f"{kind}: no tracer", "ns/turn", each[NONE.name], note=note),
        *(Figure(f"{kind}: {name} adds", "ns/pair", of) for name, of in added.items()),
        *_quotients(kind, added),
    ]


def _quotients(kind: str, added: Mapping[str, Sequence[float]]) -> list[Figure]:
    if "memleak" not in added:
        return []
    return [
        Figure(
            f"{kind}: {name} by memleak",
            "×",
            quotients(of, added["memleak"]),
            _AGAINST_MEMLEAK.get(kind, _AGAINST_MEMLEAK_ELSE) if name == "kleaktrace" else None,
        )
        for name, of in added.items()
        if name in ("kleaktrace", "exact stacks")
    ]


def _raw(samples: Samples, per_turn: Mapping[str, PerTurn]) -> object:
    return {
        "per_turn": {kind: asdict(counted) for kind, counted in per_turn.items()},
        "rounds": [
            {"tracer": tracer, "load": kind, "turns": [asdict(turns) for turns in of]}
            for (tracer, kind), of in samples.items()
        ],
    }
