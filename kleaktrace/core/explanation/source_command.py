# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that finds the source line of a frame (scripts/faddr2line of the kernel's tree)."""

from __future__ import annotations

import re

from kleaktrace.core.kmemleak.frames import KmemleakFrame

_PLAIN = re.compile(r"[\w.$-]+")


def source_command(frame: KmemleakFrame | None) -> str:
    """What to type for a frame in the source tree of its kernel; "" if its line is known, or its function is not.

    Names come from the text and go to a shell: strange ones get no command.
    """
    if frame is None or frame.source or frame.symbol is None or frame.offset is None:
        return ""
    if not _PLAIN.fullmatch(frame.symbol) or (frame.module and not _PLAIN.fullmatch(frame.module)):
        return ""
    binary = f"{frame.module}.ko" if frame.module else "vmlinux"
    return f"scripts/faddr2line {binary} {frame.symbol}+0x{frame.offset:x}/0x{frame.size or 0:x}"
