# SPDX-License-Identifier: GPL-2.0-or-later
"""What part `guest` runs inside the guest: `python -m bench_lib.guest_worker PROGRAM SECONDS ROUNDS RESULT`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench_lib import pair_counter
from bench_lib.loads import Loads
from bench_lib.tracers import NONE, kleaktrace, tracing

LOADS = ("sockets", "forks", "held")


def main(program: str, seconds: float, rounds: int, result: str) -> None:
    """Count, then run the loads with and without kleaktrace, in alternation; write the turns as JSON."""
    directory = Path(tempfile.mkdtemp())
    loads = Loads(Path(shutil.copy(program, directory)))
    pairs = {kind: pair_counter.count(loads, kind, seconds).pairs for kind in LOADS}
    found: dict[str, dict[str, list[dict[str, int]]]] = {}
    for _ in range(rounds):
        for tracer in (NONE, kleaktrace()):
            with tracing(tracer, directory):
                for kind in LOADS:
                    of = found.setdefault(tracer.name, {}).setdefault(kind, [])
                    of.append(asdict(loads.run(kind, seconds)))
    Path(result).write_text(json.dumps({"pairs": pairs, "turns": found}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
