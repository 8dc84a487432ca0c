# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleaktrace.core.doctor_checks import Check, Health, first_step


def document(checks: Sequence[Check]) -> dict[str, Any]:
    """The findings as plain values."""
    step = first_step(checks)
    return {
        "checks": [{"name": c.name, "health": str(c.health), "found": c.found, "fix": c.fix} for c in checks],
        "first": None if step is None else {"name": step.name, "fix": step.fix},
        "tracing": all(c.health is not Health.BROKEN for c in checks),
    }
