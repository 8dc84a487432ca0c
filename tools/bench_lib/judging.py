# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `judging`: verdicts on very many suspects, and reading very long reports."""

from __future__ import annotations

from bench_lib import workers
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target

_HOW = (
    "Verdicts: judge() on {suspects:,} suspects of three scans against {outstanding:,} outstanding; of ten suspects "
    "eight are outstanding, one was never seen, one is older than the trace. Reports: parse() of {megabytes} MB as "
    "6.12 prints them, with 50 different stacks, and with a different one for each object. Each in a process of its "
    "own, processor time."
)


def measure(bench: Bench) -> Part:
    """Run the part."""
    suspects, outstanding = (2_000, 20_000) if bench.short else (100_000, 1_000_000)
    size = 2_000_000 if bench.short else 40_000_000
    seconds: list[float] = []
    speeds: dict[str, list[float]] = {}
    verdicts = {}
    for what in bench.alternate("judging", ("verdicts", "plain", "unique")):
        if what == "verdicts":
            done = workers.run("judge", suspects, outstanding)
            seconds.append(done["seconds"])
            verdicts = done["verdicts"]
        else:
            done = workers.run("parse", size, what)
            speeds.setdefault(what, []).append(done["bytes"] / done["seconds"] / 1e6)
    found = [
        Figure(
            f"{suspects:,} suspects against {outstanding:,} outstanding", "s", seconds, Target(1), note=str(verdicts)
        ),
        Figure("report, 50 stacks", "MB/s", speeds["plain"], Target(50, at_least=True)),
        Figure("report, all stacks different", "MB/s", speeds["unique"], Target(50, at_least=True)),
    ]
    return Part("judging", _HOW.format(suspects=suspects, outstanding=outstanding, megabytes=size // 10**6), found)
