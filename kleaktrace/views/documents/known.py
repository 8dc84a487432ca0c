# SPDX-License-Identifier: GPL-2.0-or-later
"""A line of a file of known leaks, in JSON documents."""

from __future__ import annotations

from typing import Any

from kleaktrace.core.known_leaks import KnownLeak


def known_fields(known: KnownLeak, file: str) -> dict[str, Any]:
    """Where it stands, and what it names."""
    return {"file": file, "line": known.line, "function": known.function, "module": known.module or None}
