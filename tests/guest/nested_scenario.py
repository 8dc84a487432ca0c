# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces tasks in each other's way, and a module that frees in interrupts that come upon each other, in the guest.

nested_scenario.py RESULT.json NESTED.KO
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.session import Session

_, RESULT, NESTED = sys.argv
OURS = ("kleaktrace_nested", "kmalloc-96", "vmalloc")
"""Not what vmalloc keeps its books in: of that it gives back some later."""
TASKS, BUSY_S = 8, 5
BUSY = f"""
import time
end = time.monotonic() + {BUSY_S}
while time.monotonic() < end:
    for _ in range(100):
        open("/dev/null").close()
"""


def taken_twice(tracer: Tracer) -> dict[str, int]:
    """By program, how many events the second one took that the first one had not missed, with all attached."""
    time.sleep(0.1)  # what is underway
    before = tracer._before.skipped
    skipped = {program: total - before[program] for program, total in tracer._read_losses().skipped.items()}
    return {program: -events for program, events in skipped.items() if events < 0}


with Tracer() as tracer, Session(tracer) as session:
    tasks = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(TASKS)]
    assert not any(task.wait() for task in tasks)
    session.catch_up()
    busy = {"allocations": session.counts().totals.allocations, "taken_twice": taken_twice(tracer)}
    subprocess.run(["sh", "-c", f"insmod {NESTED}; rmmod nested"], check=True)
    after_all = taken_twice(tracer)
    session.stop()
    report = session.recording().report()
    outstanding = [group for group in report.outstanding if group.stack.module == "nested"]
    result = {
        "busy": busy,
        "taken_twice": after_all,
        "lost": {lost.cause: lost.events for lost in report.loss.causes},
        "missed": tracer._bpf.missed_runs(),
        "left": {group.cache: group.count for group in outstanding if group.cache in OURS},
        "implied": {cache: count for cache, count in report.implied_from if cache in OURS},
        "allocations": report.totals.allocations,
    }
Path(RESULT).write_text(json.dumps(result))
