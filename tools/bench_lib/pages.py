# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `pages`: what --pages costs, beside the same without it, where there are many pages and where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target
from bench_lib.loads import Turns
from bench_lib.tracers import NONE, kleaktrace, tracing

_HOW = (
    "Processor time of a turn of the load, by that of a turn without a tracer, and of one with a tracer that traces no "
    "pages, round by round. memory: 256 pages of a process's own; pages: 16 of the kernel's own; sockets: none."
)
KINDS = ("memory", "pages", "forks", "sockets")

WITHOUT, WITH = "kleaktrace", "kleaktrace --pages"

_MOST = {"memory": Target(1.2), "sockets": Target(1.05)}
"""What is left out of the table must not cost much, and what takes no pages nothing."""

Samples = Mapping[tuple[str, str], Sequence[Turns]]
"""By tracer and load, a value for each round."""


def measure(bench: Bench) -> Part:
    """Run the part."""
    seconds = bench.seconds(1.0, 0.2)
    tracers = [NONE, kleaktrace(name=WITHOUT), kleaktrace("--pages", name=WITH)]
    samples: dict[tuple[str, str], list[Turns]] = {}
    for tracer in bench.alternate("pages", tracers):
        with tracing(tracer, bench.directory):
            for kind in KINDS:
                samples.setdefault((tracer.name, kind), []).append(bench.loads.run(kind, seconds))
    found = [figure for kind in KINDS for figure in of_load(kind, samples)]
    raw = {f"{tracer}, {kind}": [asdict(turns) for turns in of] for (tracer, kind), of in samples.items()}
    return Part("pages", _HOW, found, raw)


def of_load(kind: str, samples: Samples) -> list[Figure]:
    """The figures of one load, from the rounds of all tracers."""
    none, without, with_pages = (
        [turns.cpu_ns_each for turns in samples[name, kind]] for name in (NONE.name, WITHOUT, WITH)
    )
    return [
        Figure(f"{kind}: no tracer", "ns/turn", none),
        Figure(f"{kind}: {WITHOUT}", "×", _by(without, none)),
        Figure(f"{kind}: {WITH}", "×", _by(with_pages, none)),
        Figure(f"{kind}: with --pages by without", "×", _by(with_pages, without), _MOST.get(kind)),
    ]


def _by(of: Sequence[float], base: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(of, base, strict=True)]
