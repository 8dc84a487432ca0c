# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces a module that frees in interrupts that come upon each other, in the guest.

nested_scenario.py RESULT.json NESTED.KO
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.session import Session

_, RESULT, NESTED = sys.argv
OURS = ("kleaktrace_nested", "kmalloc-96", "vmalloc")
"""Not what vmalloc keeps its books in: of that it gives back some later."""

with Tracer() as tracer, Session(tracer) as session:
    subprocess.run(["sh", "-c", f"insmod {NESTED}; rmmod nested"], check=True)
    session.stop()
    report = session.recording().report()
    outstanding = [group for group in report.outstanding if group.stack.module == "nested"]
    result = {
        "lost": {lost.cause: lost.events for lost in report.loss.causes},
        "missed": tracer._bpf.missed_runs(),
        "left": {group.cache: group.count for group in outstanding if group.cache in OURS},
        "implied": {cache: count for cache, count in report.implied_from if cache in OURS},
        "allocations": report.totals.allocations,
    }
Path(RESULT).write_text(json.dumps(result))
