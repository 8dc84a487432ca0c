# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads objects as /sys/kernel/debug/kmemleak gives them, one regular expression each: half a million in seconds.

What differs from the kernel's own form in any way is refused, and left to `rough_reports`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kleaktrace.core.kmemleak.frames import END_MARK, KmemleakFrame, is_addr2line, settle
from kleaktrace.core.kmemleak.kmemleak_text import Suspect
from kleaktrace.core.kmemleak.report_grammar import frame_of
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

_OBJECT = re.compile(
    r"unreferenced object (?:\((percpu|phys)\) )?0x([0-9a-f]{8,16}) \(size (\d{1,20})\):\n"
    r'  comm "([^\n]{0,64}?)", pid (\d{1,10}), jiffies (\d{1,20})(?: \(age (\d{1,10}\.\d{3})s\))?\n'
    r"(?:  hex dump \(first \d{1,9} bytes( on cpu \d{1,9})?\):\n((?:    [0-9a-f]{2} [^\n]*+\n)*+))?+"
    r"  backtrace(?: \(crc ([0-9a-f]{1,8})\))?:\n"
    r"((?:    [^\n]*+\n)*+)"
    # Where something else follows, a line may have been wrapped.
    r"(?=unreferenced object |\Z|\n|(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?BUG: memory leak\n)"
)
_PLACE = (
    r"(?:([A-Za-z_.$][^\s+\\]*+)\+0x([0-9a-f]{1,16}+)/0x([0-9a-f]{1,16}+)(?: \[([\w.-]{1,64}+)\])?+"
    r"|0x([0-9a-f]{1,16}+))\n"
)
_FRAME = re.compile(r"^    " + _PLACE, re.MULTILINE)
_FRAME_WITH_ADDRESS = re.compile(r"^    \[<([0-9a-f]{16}|[0-9a-f]{8})>\] " + _PLACE, re.MULTILINE)
_HEX_COLUMNS = 4, 4 + 16 * 3
"""Where the bytes stand in a row of the hex dump (HEX_PREFIX, HEX_ROW_SIZE and HEX_GROUP_SIZE, mm/kmemleak.c)."""
_HEX_WIDTH = 4 + 16 * 3 - 1 + 2 + 16 + 1
"""Characters of a whole row, its end included: most objects show two."""
_CACHE_LIMIT = 1 << 16
_SHORT, _HASH = 8, "00000000"
"""Digits of an address on 32-bit machines, and how a hashed one begins on others (`frames.settle`)."""
_ENDS = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)

_new_frame = tuple.__new__  # half of what the class itself takes


class CleanReports:
    """Reads objects one after the other, and keeps backtraces and lines that it has seen, as many come again."""

    def __init__(self) -> None:
        self._backtraces: dict[str, tuple[KmemleakFrame, ...] | None] = {}
        self._lines: dict[str, KmemleakFrame | None] = {}

    def read(self, text: str, at: int, line: int) -> tuple[Suspect, int] | None:
        """Read the object whose header begins at `at`, on this line; return it and where it ends, None if unclean."""
        match = _OBJECT.match(text, at)
        if match is None:
            return None
        kind, address, size, comm, pid, jiffies, age, on_cpu, dump, crc, backtrace = match.groups()
        if backtrace in self._backtraces:
            frames = self._backtraces[backtrace]
        else:
            if len(self._backtraces) > _CACHE_LIMIT:
                self._backtraces.clear()
            frames = self._backtraces[backtrace] = self._frames(backtrace)
        contents = _contents(dump) if dump else b""
        if frames is None or contents is None:
            return None
        suspect = Suspect(
            int(address, 16),
            int(size),
            kind_of(kind, on_cpu),
            comm,
            int(pid),
            int(jiffies),
            float(age) if age else None,
            int(crc, 16) if crc else None,
            frames,
            0,
            line,
            contents,
        )
        return suspect, match.end()

    def _frames(self, backtrace: str) -> tuple[KmemleakFrame, ...] | None:
        """The frames of a whole backtrace; None if any line of it needs a closer look."""
        found = _with_addresses(backtrace) if backtrace.startswith("    [<") else _without_addresses(backtrace)
        return self._unlike_frames(backtrace) if found is None else found

    def _unlike_frames(self, backtrace: str) -> tuple[KmemleakFrame, ...] | None:
        """The same where the lines are not all of one form."""
        frames = []
        for line in backtrace.splitlines():
            frame = self._lines[line] if line in self._lines else self._line(line)
            if frame is None:
                return None
            if frame is not END_MARK:
                frames.append(frame)
        return settle(frames)

    def _line(self, line: str) -> KmemleakFrame | None:
        if len(self._lines) > _CACHE_LIMIT:
            self._lines.clear()
        body = line.strip()
        frame = self._lines[line] = None if is_addr2line(body) else frame_of(body)
        return frame


def kind_of(printed: str | None, on_cpu: str | bool | None) -> SuspectKind:
    """By the header's own word; where there is none, a hex dump that names a CPU is that of a per-CPU object."""
    if printed is not None:
        return SuspectKind(printed)
    return SuspectKind.PERCPU if on_cpu else SuspectKind.SLAB


def _without_addresses(backtrace: str) -> tuple[KmemleakFrame, ...] | None:
    """The frames as they are printed since 6.13; None if any line is of another form."""
    found = _FRAME.findall(backtrace)
    if len(found) != backtrace.count("\n"):
        return None
    frames = [
        _new_frame(KmemleakFrame, (None, symbol, int(offset, 16), int(size, 16), module or None, None, False, None))
        if symbol
        else _nameless(bare, None)
        for symbol, offset, size, module, bare in found
    ]
    return _without_end(frames) if "    0x" in backtrace else tuple(frames)


def _with_addresses(backtrace: str) -> tuple[KmemleakFrame, ...] | None:
    """The frames as they were printed before, behind their addresses, in the clear or hashed."""
    found = _FRAME_WITH_ADDRESS.findall(backtrace)
    if len(found) != backtrace.count("\n"):
        return None
    frames = [
        _new_frame(
            KmemleakFrame,
            (
                None if len(printed) == _SHORT or printed.startswith(_HASH) else int(printed, 16),
                symbol,
                int(offset, 16),
                int(size, 16),
                module or None,
                None,
                False,
                printed,
            ),
        )
        if symbol
        else _nameless(bare, printed)
        for printed, symbol, offset, size, module, bare in found
    ]
    kept = _without_end(frames) if "] 0x" in backtrace else tuple(frames)
    return settle(kept) if found and len(found[0][0]) == _SHORT else kept


def _without_end(frames: Sequence[KmemleakFrame]) -> tuple[KmemleakFrame, ...]:
    return tuple(frame for frame in frames if frame is not END_MARK)


def _nameless(bare: str, printed: str | None) -> KmemleakFrame:
    """The frame of a line with an address only."""
    address = int(bare, 16)
    return END_MARK if address in _ENDS else KmemleakFrame(address, printed=printed)


def _contents(dump: str) -> bytes | None:
    """The bytes of the rows of a hex dump; None if they are not where they should be."""
    start, end = _HEX_COLUMNS
    try:
        if len(dump) == 2 * _HEX_WIDTH and dump[_HEX_WIDTH - 1] == "\n":
            return bytes.fromhex(dump[start:end] + dump[_HEX_WIDTH + start : _HEX_WIDTH + end])
        return bytes.fromhex("".join([line[start:end] for line in dump.split("\n")]))
    except ValueError:
        return None
