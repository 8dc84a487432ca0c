# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces by the second-best means, in the guest: kprobes for fentry and fexit, then the vmalloc events.

fallback_scenario.py RESULT.json LAB.KO
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from kleaktrace.core.events.records import hide
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.edge.bpf.compiled_programs import MapSpec
from kleaktrace.edge.bpf.libbpf import create_map
from kleaktrace.edge.tracing.tracer import Tracer

LAB = Path("/sys/kernel/debug/kleaktrace_lab")
MEANS = {
    "kprobe": frozenset({"fentry", "fexit", "bpf_rdonly_cast"}),
    "events": frozenset({"fentry", "fexit", "kprobe", "kretprobe"}),
}
ARRAY, MMAPABLE = 2, 1 << 10  # include/uapi/linux/bpf.h
LARGE = 8 << 20
"""Bytes; vmalloc calls itself for the list of the pages of what is larger than 2 MiB."""


def _function(tracer: Tracer, row: np.void) -> str:
    stack = tracer.names.stacks.get(int(row["stack"]))
    return stack.lines()[0].partition("+")[0] if stack.frames else "no stack"


def trace(left_out: frozenset[str]) -> dict[str, object]:
    """What is seen of a vmalloc leak, and of the module's own memory, which rmmod frees."""
    with Tracer(left_out=left_out) as tracer:
        ledger = Ledger(history_min_lifetime_ns=0)
        subprocess.run(["insmod", sys.argv[2]], check=True)
        # By another process: the tracer leaves out what its own does.
        subprocess.run(["sh", "-c", f"echo leak_vmalloc_5k > {LAB}/do"], check=True)
        for _ in range(3):
            os.close(create_map(MapSpec("large", ARRAY, 4, 4096, LARGE // 4096, MMAPABLE)))
        objects = [line.split("\t") for line in (LAB / "objects").read_text().splitlines()]
        text = [row for row in Path("/proc/modules").read_text().splitlines() if row.startswith("kleaktrace_lab ")]
        subprocess.run(["rmmod", "kleaktrace_lab"], check=True)
        time.sleep(1)
        while tracer.polled < tracer.reported:
            ledger.apply(tracer.poll())
        leaked = [int(row[3], 16) for row in objects if row[0] == "leak_vmalloc_5k"]
        found, rows = ledger.lookup([hide(address) for address in leaked])
        freed = ledger.history([hide(int(text[0].split()[5], 16))])
        return {
            "coverage": {c.kind: c.source for c in tracer.coverage},
            "leaked": len(leaked),
            "found": int(found.sum()),
            "bytes_req": sorted({int(row["bytes_req"]) for row in rows}),
            "functions": sorted({_function(tracer, row) for row in rows}),
            "module_freed": len(freed),
            "free_sites": sorted({str(tracer.names.sites.frame(int(row["free_site"])).name) for row in freed}),
            "loss": [str(lost) for lost in tracer.check_loss().causes],
        }


Path(sys.argv[1]).write_text(json.dumps({name: trace(left_out) for name, left_out in MEANS.items()}))
