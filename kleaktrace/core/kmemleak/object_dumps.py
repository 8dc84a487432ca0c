# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what kmemleak logs of one object, if asked or at an error (mm/kmemleak.c, `dump_object_info`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from kleaktrace.core.kmemleak.frames import END_MARK, KmemleakFrame, settle
from kleaktrace.core.kmemleak.kmemleak_text import ObjectDump, Problem
from kleaktrace.core.kmemleak.margins import TAG, Belongs, Margin, OwnLine, OwnLines
from kleaktrace.core.kmemleak.report_grammar import (
    Comm,
    backtrace_of,
    comm_of,
    frame_of,
    last_part_of_comm,
    starts_comm,
)
from kleaktrace.core.kmemleak.text_lines import Line

_HEADER = re.compile(r"Object (?:\(\w{1,16}\) )?0x(?P<address>[0-9a-f]{1,16}) \(size (?P<size>\d{1,20})\):")
_FIELD = re.compile(r"(min_count|count|flags|checksum) = (0x[0-9a-f]{1,16}|-?\d{1,20})$")
_FIELDS = 4
_MOST_LINES = 64
_COMM_LINES = 17


class ReadDump(NamedTuple):
    """What was read, or why not, and how many lines are its own."""

    dump: ObjectDump | None
    problem: Problem | None
    used: int


def dump_starts(text: str) -> bool:
    """Whether the dump of an object begins on a line."""
    return TAG in text and "Object " in text and bool(_HEADER.search(text))


def read_dump(lines: Sequence[Line]) -> ReadDump:
    """Read the dump whose first line is the first of `lines`."""
    text = lines[0].text
    header = _HEADER.search(text)
    assert header is not None, "dump_starts() said so"
    margin = Margin(text[: header.start()], [line.text for line in lines[1:8]])
    return _Dump(header, OwnLines(margin, margin.own(lines[0]), lines[1:_MOST_LINES])).read()


class _Dump:
    """One pass over the lines of a dump."""

    def __init__(self, header: re.Match[str], lines: OwnLines) -> None:
        self.header = header
        self.lines = lines
        self.at = 1
        self.values: dict[str, int] = {}
        self.comm: Comm | None = None
        self.frames: list[KmemleakFrame] = []
        self.in_trace = False

    def read(self) -> ReadDump:
        while self.at < len(self.lines) and self._line():
            self.at += 1
        first = self.lines[0].number
        if self.comm is None or self.comm.pid is None or self.comm.jiffies is None or len(self.values) < _FIELDS:
            return ReadDump(
                None, Problem(first, f"the dump of object 0x{self.header['address']} is incomplete"), self.at
            )
        dump = ObjectDump(
            int(self.header["address"], 16),
            int(self.header["size"]),
            self.comm.comm,
            self.comm.pid,
            self.comm.jiffies,
            self.values["min_count"],
            self.values["count"],
            self.values["flags"],
            self.values["checksum"],
            settle(self.frames),
            first,
        )
        return ReadDump(dump, None, self.at)

    def _line(self) -> bool:
        """Read the current line; False if it is not of the dump."""
        line = self.lines[self.at]
        if self.in_trace:
            return self._frame(line)
        if line.belongs is not Belongs.YES:
            return False
        field = _FIELD.match(line.body)
        if field:
            self.values[field[1]] = int(field[2], 16 if field[2].startswith("0x") else 10)
        elif starts_comm(line.body):
            self.comm = self._comm(line)
            return self.comm is not None
        elif backtrace_of(line.body):
            self.in_trace = True
        else:
            return False
        return True

    def _comm(self, line: OwnLine) -> Comm | None:
        comm = comm_of(line.body)
        if comm and comm.jiffies is not None:
            return comm
        pieces = [line.body.partition('"')[2]]
        for at in range(self.at + 1, min(self.at + _COMM_LINES, len(self.lines))):
            part = self.lines[at]
            if part.belongs is Belongs.BARE:  # wrapped
                whole = comm_of(f"{line.body} {part.body}")
                if whole and whole.jiffies is not None and whole.comm in line.body:  # else the comm holds the newline
                    self.at = at
                    return whole
            text = part.text.strip()
            last = last_part_of_comm(text)
            if last:
                self.at = at
                return last._replace(comm="\n".join([*pieces, last.comm]))
            pieces.append(text)
        return None

    def _frame(self, line: OwnLine) -> bool:
        """Read a line of the backtrace: the kernel's printer of stacks puts no `kmemleak:` before it."""
        if line.belongs is Belongs.NO or (line.belongs is Belongs.YES and _FIELD.match(line.body)):
            return False
        frame = frame_of(line.body)
        if frame is None and self.at + 1 < len(self.lines) and self.lines[self.at + 1].belongs is Belongs.BARE:
            frame = frame_of(f"{line.body} {self.lines[self.at + 1].body}")
            self.at += frame is not None
        if frame is None:
            return False
        if frame is not END_MARK:
            self.frames.append(frame)
        return True
