# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `stacks`: how often the short cut to a stack is taken, and how often it is wrong."""

from __future__ import annotations

from typing import Any

from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target
from bench_lib.loads import LOADS
from bench_lib.tracers import kleaktrace, tracing

_KEY = "stack_check"
_HOW = (
    "Each load for {seconds:g} s under a kleaktrace trace of its own, from its document: of the stacks that were "
    "unwound though they were recognised, those recognised as another one; and those unwound of all allocations."
)


def measure(bench: Bench) -> Part:
    """Run the part."""
    seconds = bench.seconds(5.0, 1.0)
    found: list[Figure] = []
    raw: dict[str, Any] = {}
    for kind in LOADS:
        bench.say(f"stacks: {kind}")
        with tracing(kleaktrace(), bench.directory) as running:
            bench.loads.run(kind, seconds)
            running.end()
            document = running.document()
        check = raw[kind] = document.get(_KEY)
        found += _figures(kind, check, document["totals"]["allocations"])
    return Part("stacks", _HOW.format(seconds=seconds), found, raw)


def _figures(kind: str, check: dict[str, int] | None, allocations: int) -> list[Figure]:
    if check is None:
        return [Figure(f"{kind}: wrong stacks", "%", (), note=f"not available: the document has no {_KEY}")]
    wrong, checked, unwound = (check[name] for name in ("wrong", "checked", "unwound"))
    return [
        Figure(
            f"{kind}: wrong stacks",
            "%",
            [100 * wrong / checked] if checked else [],
            Target(0.1),
            note=f"{wrong:,} wrong of {checked:,} checked",
        ),
        Figure(f"{kind}: unwound", "% of allocations", [100 * unwound / allocations]),
    ]
