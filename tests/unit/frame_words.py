# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks written as words, for tests that read well."""

from __future__ import annotations

from kleaktrace.core.symbols.symbol_table import Frame


def frames(text: str) -> tuple[Frame, ...]:
    """Frames from names, innermost first: `func`, `func[module]`, or `?` for an address without a name."""
    found = []
    for number, word in enumerate(text.split(), start=1):
        name, _, module = word.rstrip("]").partition("[")
        found.append(Frame(number) if name == "?" else Frame(number, name, 1, 2, module or None))
    return tuple(found)


def words(found: tuple[Frame, ...]) -> str:
    return " ".join((f.name or "?") + (f"[{f.module}]" if f.module else "") for f in found)
