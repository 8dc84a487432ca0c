# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads and unloads a module again and again while it is traced, in the guest, and counts what is kept of it.

reload_scenario.py RESULT.json LAB.KO
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kleaktrace.core.events.records import Batch
from kleaktrace.edge.tracing.tracer import Tracer

TIMES = 6
LAB = Path("/sys/kernel/debug/kleaktrace_lab")
PROGRAM = Path("/tmp/kt-same")
"""Its allocations are told by its name."""


def polled(tracer: Tracer) -> Iterator[Batch]:
    """All that was reported by now."""
    while tracer.polled < tracer.reported:
        yield tracer.poll()


def stacks_of_program(tracer: Tracer) -> set[int]:
    """Run a small program; the keys of the stacks it allocated at."""
    for _ in polled(tracer):
        pass
    subprocess.run([PROGRAM, "/dev/null"], check=True)
    stacks: set[int] = set()
    for batch in polled(tracer):
        ours = batch.allocations["comm"] == PROGRAM.name.encode()
        stacks.update(batch.allocations["stack"][ours].tolist())
    return stacks


def stacks_of_module(tracer: Tracer) -> set[int]:
    """Load the module, have it leak, unload it; the keys of the stacks that pass through it."""
    subprocess.run(["insmod", sys.argv[2]], check=True)
    # By another process: the tracer leaves out what its own does.
    subprocess.run(["sh", "-c", f"echo leak_vmalloc_5k > {LAB}/do"], check=True)
    subprocess.run(["rmmod", "kleaktrace_lab"], check=True)
    time.sleep(0.5)
    keys = {key for batch in polled(tracer) for key in batch.allocations["stack"].tolist()}
    return {key for key in keys if "kleaktrace_lab" in tracer.names.stacks.get(key).modules}


PROGRAM.symlink_to("/bin/cat")
with Tracer() as tracer:
    of_program, of_module, caches = [stacks_of_program(tracer)], [], []
    for _ in range(TIMES):
        of_module.append(stacks_of_module(tracer))
        of_program.append(stacks_of_program(tracer))
        caches.append(len(tracer.names.caches))
    result = {
        "of_program": len(of_program[-1]),
        "new_of_program": len(of_program[-1] - of_program[0]),
        "of_module": len(of_module[-1]),
        "new_of_module": len(of_module[-1] - of_module[0]),
        "caches": caches,
        "loss": tracer.check_loss().events,
    }
Path(sys.argv[1]).write_text(json.dumps(result))
