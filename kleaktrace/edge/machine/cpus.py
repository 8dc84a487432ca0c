# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUs that we may run on."""

from __future__ import annotations

import os
from collections.abc import Iterator


def on_each_cpu() -> Iterator[int]:
    """Run on one of them after the other, and in the end where we were allowed to before."""
    allowed = os.sched_getaffinity(0)
    try:
        for cpu in sorted(allowed):
            os.sched_setaffinity(0, {cpu})
            yield cpu
    finally:
        os.sched_setaffinity(0, allowed)
