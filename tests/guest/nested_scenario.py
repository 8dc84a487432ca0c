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
OWN_CACHE, KMALLOC_CACHE = "kleaktrace_nested", "kmalloc-96"

with Tracer() as tracer, Session(tracer) as session:
    subprocess.run(["sh", "-c", f"insmod {NESTED}; rmmod nested"], check=True)
    session.stop()
    report = session.recording().report()
    result = {
        "lost": {lost.cause: lost.events for lost in report.loss.causes},
        "missed": tracer._bpf.missed_runs(),
        "left": sum(group.count for group in report.outstanding if group.stack.module == "nested"),
        "implied": sum(count for cache, count in report.implied_from if cache in (OWN_CACHE, KMALLOC_CACHE)),
        "allocations": report.totals.allocations,
    }
Path(RESULT).write_text(json.dumps(result))
