# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `guest`: kmemleak itself as a peer, which only another kernel has."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, quotients
from bench_lib.guest_worker import LOADS
from bench_lib.loads import Turns
from bench_lib.tracers import PROJECT, TracerFailed

_BOOTS = 2
_TIMEOUT_S = 900
_HOW = (
    "In the emulated guest of tools/guest, booted with kmemleak=on and with kmemleak=off in alternation; in each, the "
    "loads with and without kleaktrace trace in alternation. kmemleak: what a pair takes longer in a boot with it than "
    "in the next without, no tracer. Emulation makes all slower, so only the quotients say something."
)
_Run = dict[str, Any]


def measure(bench: Bench) -> Part:
    """Run the part."""
    runs: dict[str, list[_Run]] = {"on": [], "off": []}
    with tempfile.TemporaryDirectory(prefix="kleaktrace-bench-guest-", dir="/tmp") as name:
        shared = Path(name)
        shutil.copy(bench.loads.program, shared)
        for boot in range(1 if bench.short else _BOOTS):
            for state, done in runs.items():
                bench.say(f"guest: boot {boot + 1} with kmemleak={state}")
                done.append(_boot(state, shared / bench.loads.program.name, bench))
    found = [figure for kind in LOADS for figure in _of_load(kind, runs)]
    return Part("guest", _HOW, found, runs)


def _boot(state: str, program: Path, bench: Bench) -> _Run:
    result = program.parent / "result.json"
    result.unlink(missing_ok=True)
    command = ["env", "PYTHONPATH=tools", ".venv/bin/python", "-m", "bench_lib.guest_worker"]
    command += [str(program), str(bench.seconds(2.0, 1.0)), "1" if bench.short else "3", str(result)]
    guest = [str(PROJECT / "tools" / "guest"), "--append", f"kmemleak={state}", "--rwdir", str(program.parent)]
    guest += ["--timeout", str(_TIMEOUT_S), "--", *command]
    done = subprocess.run(guest, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode or not result.exists():
        raise TracerFailed(f"the guest ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    found: _Run = json.loads(result.read_text())
    return found


def _of_load(kind: str, runs: dict[str, list[_Run]]) -> list[Figure]:
    pairs = statistics.median(run["pairs"][kind] for of in runs.values() for run in of)
    each = {
        (state, tracer): [_cpu_ns_each(run, tracer, kind) / pairs for run in of]
        for state, of in runs.items()
        for tracer in ("none", "kleaktrace")
    }
    kmemleak = [on - off for on, off in zip(each["on", "none"], each["off", "none"], strict=True)]
    ours = {
        state: [traced - none for traced, none in zip(each[state, "kleaktrace"], each[state, "none"], strict=True)]
        for state in runs
    }
    return [
        Figure(f"{kind}: kmemleak adds", "ns/pair", kmemleak),
        Figure(f"{kind}: kleaktrace adds, kmemleak off", "ns/pair", ours["off"]),
        Figure(f"{kind}: kleaktrace adds, kmemleak on", "ns/pair", ours["on"]),
        Figure(f"{kind}: kleaktrace by kmemleak", "×", quotients(ours["off"], kmemleak)),
    ]


def _cpu_ns_each(run: _Run, tracer: str, kind: str) -> float:
    return statistics.median(Turns(**turns).cpu_ns_each for turns in run["turns"][tracer][kind])
