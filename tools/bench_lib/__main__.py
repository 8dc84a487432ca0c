# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `tools/bench`."""

from __future__ import annotations

import functools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench_lib import (
    bpf_programs,
    capture,
    cost,
    flat_out,
    guest,
    judging,
    ledger,
    long_run,
    pages,
    programs,
    project,
    rings,
    stacks,
    start,
    table,
)
from bench_lib.bench import Bench
from bench_lib.figures import Part
from bench_lib.loads import Loads
from bench_lib.tracers import TracerFailed

_Measure = Callable[[Bench], Part]
PARTS: dict[str, _Measure] = {
    "cost": cost.measure,
    "pages": pages.measure,
    "programs": programs.measure,
    "stacks": stacks.measure,
    "flat-out": flat_out.measure,
    "rings": rings.measure,
    "start": start.measure,
    "ledger": ledger.measure,
    "judging": judging.measure,
    "capture": capture.measure,
    "compile": project.measure,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]…")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of what is done in rounds.")
@click.option("--guest", "with_guest", is_flag=True, help="Also kmemleak itself, in tools/guest: ten minutes more.")
@click.option("--long", "minutes", type=click.FloatRange(0, min_open=True), metavar="MINUTES", help="Also a long run.")
@click.option("--short", is_flag=True, help="See that it works: too short for figures.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Where to write.  [default: build/bench.json]"
)
def main(
    parts: Sequence[str], rounds: int, with_guest: bool, minutes: float | None, short: bool, json_file: Path | None
) -> None:
    """Measure kleaktrace beside its peers on this machine.

    Without a PART, all of them, unless --guest or --long ask for something of their own.
    """
    extra: dict[str, _Measure] = {}
    if with_guest:
        extra["guest"] = guest.measure
    if minutes is not None:
        extra["long"] = functools.partial(long_run.measure, minutes=minutes)
    chosen = {name: PARTS[name] for name in parts or ([] if extra else PARTS)} | extra
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 120)
    machine = _machine()
    console.print(
        f"{machine['kernel']}, {machine['cpus']} processors ({machine['processor']}), load {machine['load']}\n"
    )
    measured: list[Part] = []
    file = json_file or Path(__file__).resolve().parents[2] / "build" / "bench.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kleaktrace-bench-") as place:
        directory = Path(place)
        loads = Loads.compiled(directory)
        for name, measure in chosen.items():
            others = bpf_programs.tracing_still()
            with _progress(console) as say:
                found = _measured(name, measure, Bench(loads, directory, rounds, short, say))
            found = replace(found, others=[*others, *bpf_programs.tracing_still()])
            table.show(console, found)
            measured.append(found)
            # After each part: what takes long may be interrupted.
            file.write_text(json.dumps({**machine, "parts": [p.document() for p in measured]}, indent=1) + "\n")
    console.print(f"written to {file}")
    if not all(part.figures for part in measured):
        sys.exit(1)


def _measured(name: str, measure: _Measure, bench: Bench) -> Part:
    """A part, or why there is none: the others are measured all the same."""
    try:
        return measure(bench)
    except (TracerFailed, subprocess.CalledProcessError) as failure:
        return Part(name, f"FAILED: {failure}", ())


def _progress(console: Console) -> AbstractContextManager[Callable[[str], None]]:
    if not console.is_terminal:
        return nullcontext(lambda text: print(f"bench: {text}", file=sys.stderr, flush=True))
    return _Spinner(console)


class _Spinner:
    """The one line that says what is being done."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("")

    def __enter__(self) -> Callable[[str], None]:
        self._status.start()
        return self._status.update

    def __exit__(self, *_: object) -> None:
        self._status.stop()


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "processor": names[0] if names else "unknown",
        "load": [round(value, 2) for value in os.getloadavg()],
    }


if __name__ == "__main__":
    main()
