# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents as JSON text."""

from __future__ import annotations

import json
from typing import Any


def dumps(value: dict[str, Any]) -> str:
    """JSON text, ASCII only: a comm may hold what a terminal would obey.

    A field a line, and of lists an item a line: that is what people page and grep through, and json's own indentation
    is written in Python and ten times as slow.
    """
    fields = (f"  {json.dumps(name)}: {_lines(field)}" for name, field in value.items())
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _lines(field: object) -> str:
    if not isinstance(field, list) or not field:
        return json.dumps(field)
    return "[\n    " + ",\n    ".join(map(json.dumps, field)) + "\n  ]"
