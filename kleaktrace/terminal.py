# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes text from the kernel safe to print: comms, module names and pasted reports are hostile input."""

from __future__ import annotations


def clean(text: str) -> str:
    """Return `text` with every control, format and surrogate character shown as an escape.

    A comm may hold any byte but NUL; printed raw, it could move the cursor or retitle the window.
    """
    if text.isprintable():  # nearly all are, and there may be a million of them
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
