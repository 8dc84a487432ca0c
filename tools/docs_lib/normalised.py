# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of guests without what differs from one run to the next, to be compared with what pages show."""

from __future__ import annotations

import re
from collections.abc import Sequence

from docs_lib.shown_output import without_source_lines

_REPLACED = (
    (re.compile(r"\b0x[0-9a-f]{8,}\b"), "ADDRESS"),
    (re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?\b"), "+OFFSET"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"\b(?:\d+ min )?\d+(?:\.\d+)? (?:s|ms|µs)\b"), "TIME"),
    (re.compile(r"^kernel 6\.12\.\S+ (.*): .* outstanding .*"), r"kernel 6.12 \1: COUNTS"),
    # Stale words may hide some of them from kmemleak; these are confirmed when the module is unloaded.
    (re.compile(r"confirmed by kmemleak and unload$"), "confirmed by kmemleak"),
    (re.compile(r"^(  notepad_open \[notepad\]: )\d+ × "), r"\1N × "),
    (re.compile(r"\S*/(?=notepad\.|test\.sh)"), ""),
)
_CONTENTS = "    in them: "
_OF_THE_DRIVER = re.compile(r"  \S*/?notepad\.c:\d+$")


def normalised(lines: Sequence[str]) -> list[str]:
    """The same lines with words for addresses, offsets, times, process ids, and what others or chance did.

    Source lines are kept where they are the driver's own: the kernel's take an emulated guest too long, sometimes.
    """
    plain: list[str] = []
    for line in lines:
        if line.startswith(_CONTENTS):
            continue
        plain += [line] if _OF_THE_DRIVER.search(line) else without_source_lines([line])
    for pattern, word in _REPLACED:
        plain = [pattern.sub(word, line) for line in plain]
    return plain
