# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads kmemleak's report, of any kernel since 2.6.31, from the file itself or from a log, console or mail.

What is printed is in mm/kmemleak.c: `print_unreferenced` (the report) and `dump_object_info` (the answer to
`dump=`, in the kernel log). Nothing is half-read in silence: what looks like a report and cannot be read
becomes a `Problem` with its line number.

Plain text as /sys/kernel/debug/kmemleak gives it takes a fast path, one regular expression per object;
everything else is read line by line. Both take time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from kleaktrace.core.arrays.gc_pause import kept_uncollected
from kleaktrace.core.kmemleak.frames import END_MARK, MAX_FRAMES, KmemleakFrame, is_addr2line, parse_frame, settle
from kleaktrace.core.kmemleak.log_prefixes import MAX_LINE, Margin, strip
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

_PERCPU = SuspectKind.PERCPU  # asked of each of a hundred thousand suspects


@dataclass(frozen=True, slots=True)
class Suspect:
    """One object that kmemleak lists as unreferenced.

    `address` is of the name space that `kind` says. `size` is in bytes, `jiffies` the time of the allocation; `age_s`
    is printed up to 6.7, `crc`, the checksum of the contents, from 6.8 on. `frames` are innermost first; `more` counts
    objects that the log only mentions as having the same backtrace; `line` is where the header stood.
    """

    address: int
    size: int
    kind: SuspectKind
    comm: str
    pid: int
    jiffies: int
    age_s: float | None
    crc: int | None
    frames: tuple[KmemleakFrame, ...]
    more: int = 0
    line: int = 0

    @property
    def truncated(self) -> bool:
        """Whether the stack is cut: kmemleak keeps no more than 16 frames."""
        return sum(not f.inline for f in self.frames) >= MAX_FRAMES

    @property
    def untagged(self) -> int:
        """The address without the tag that KASAN keeps in its top byte. Per-CPU offsets, any number, have none."""
        is_tagged = self.kind != _PERCPU and self.address >> 55 & 1
        return self.address | 0xFF << 56 if is_tagged else self.address


@dataclass(frozen=True, slots=True)
class ObjectDump:
    """What kmemleak knows of one object, as `dump=ADDRESS` makes it print to the kernel log.

    `count` references were found by the last scan; fewer than `min_count` make a suspect. `min_count` 0 and
    -1 mean "never reported" (grey, black). `flags` are OBJECT_* of mm/kmemleak.c.
    """

    address: int
    size: int
    comm: str
    pid: int
    jiffies: int
    min_count: int
    count: int
    flags: int
    checksum: int
    frames: tuple[KmemleakFrame, ...]
    line: int = 0

    @property
    def state(self) -> str:
        """One sentence on what the counts mean."""
        if self.min_count < 0:
            return "kmemleak ignores this object (min_count -1)"
        if self.min_count == 0:
            return "kmemleak never reports this object (min_count 0)"
        if self.count >= self.min_count:
            return "referenced, or its contents changed during the last scan"
        if self.count < 0:
            return "not scanned yet"
        return f"unreferenced in the last scan ({self.count} of {self.min_count} references found)"


class Problem(NamedTuple):
    """Something in the text that could not be read, or that says why there is nothing to read."""

    line: int
    what: str


class Message(NamedTuple):
    """A line of the kernel log in which kmemleak speaks about itself."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class KmemleakText:
    """All that a text holds of kmemleak."""

    objects: tuple[Suspect, ...]
    problems: tuple[Problem, ...]
    dumps: tuple[ObjectDump, ...] = ()
    messages: tuple[Message, ...] = ()

    @property
    def recognised(self) -> bool:
        """Whether the text has anything to do with kmemleak."""
        return bool(self.objects or self.problems or self.dumps or self.messages)


@kept_uncollected()
def parse(text: str) -> KmemleakText:
    """Read all reports, object dumps and log messages of kmemleak in `text`; never raises."""
    return _Parser(text).parse()


_TOKEN = "unreferenced object"
_TAG = "kmemleak:"
_KIND = r"(?:\((?P<kind>\w{1,16})\) )?"
_HEADER = re.compile(
    r"unreferenced object\s+" + _KIND + r"0x(?P<address>[0-9a-f]{1,16})\s+\(size (?P<size>\d{1,20})\):"
)
_CLAIMS_HEADER = re.compile(r"unreferenced object\s*(?:0|\((?:percpu|phys|size)|\(?\w{0,16}(?P<cut>$))")
_PID_JIFFIES = re.compile(
    r'", pid (?P<pid>-?\d{1,10}), jiffies (?P<jiffies>\d{1,20})(?: \(age (?P<age>-?\d{1,12}\.\d{3})s\))?'
    r"(?:\s|\x1b\[[0-9;]{0,16}[A-Za-z])*+$"
)
_COMM = re.compile(r'comm "')
_HEX_HEAD = re.compile(r"hex dump \(first (?P<bytes>\d{1,9}) bytes(?P<cpu> on cpu \d{1,9})?\):")
_HEX_ROW = re.compile(r"[0-9a-f]{2}(?: [0-9a-f]{2}){0,31}(?=\s|$)")
_BACKTRACE = re.compile(r"backtrace(?: \(crc (?P<crc>[0-9a-f]{1,8})\))?:")
_MORE = re.compile(r"\.\.\. and (?P<more>\d{1,10}) more object\(s\) with the same backtrace")
_DUMP = re.compile(r"Object " + _KIND + r"0x(?P<address>[0-9a-f]{1,16}) \(size (?P<size>\d{1,20})\):")
_DUMP_FIELD = re.compile(r"(min_count|count|flags|checksum) = (0x[0-9a-f]{1,16}|-?\d{1,20})$")
_GAP_TOKENS = re.compile(r"kmemleak|memory leak detector|jiffies|Early log buffer")
_MESSAGE = re.compile(
    r"Kernel memory leak detector|Automatic memory scanning|Cannot (?:insert|allocate)|Memory pool empty"
    r"|Early log buffer|\d+ new suspected memory leaks|Unknown object at|Kmemleak disabled"
    r"|.*kmemleak_late_init"
    r"|Failed to (?:create|initiali[sz]e)|Found object by alias|Not scanning unknown object"
    r"|(?:Partially f|F)reeing unknown object|Trying to color unknown object"
)
_FAST = re.compile(
    r"unreferenced object (?:\((percpu|phys)\) )?0x([0-9a-f]{8,16}) \(size (\d{1,20})\):\n"
    r'  comm "([^\n]{0,64}?)", pid (\d{1,10}), jiffies (\d{1,20})(?: \(age (\d{1,10}\.\d{3})s\))?\n'
    r"(?:  hex dump \(first \d{1,9} bytes( on cpu \d{1,9})?\):\n(?:    [^\n]*+\n)*+)?+"
    r"  backtrace(?: \(crc ([0-9a-f]{1,8})\))?:\n"
    r"((?:    [^\n]*+\n)*+)"
    r"(?=unreferenced object |\Z)"
)
_CUT_FRAME = re.compile(  # a frame whose end is missing
    r"\[<[^>]{0,32}$|(?:\[<[^>]{0,32}>\]\s*)?(?:[A-Za-z_$][\w.$]*(?:\+(?:0(?:x[0-9a-f]*(?:/(?:0x?)?)?)?)?)?)?$"
)
_LONE_ADDRESS = re.compile(r"\[<[^>]{0,32}>\]")
_WRAPPED = re.compile(
    r"(?:\[(?!inline\])(?P<module>[\w.-]{1,64})\])?\s*"
    r"\(?(?P<source>[^\s()\[\]:]{1,512}:\d{1,9})?\)?\s*(?P<inline>\[inline\])?"
)
_COMM_LINES = 17  # a comm is at most 15 bytes, any of which may be a newline
_FOREIGN_LINES = 64  # lines of others that may stand between two lines of one report in a log
_CACHE_LIMIT = 1 << 16


class _Body(NamedTuple):
    """The frames of one object and what stood around them."""

    frames: tuple[KmemleakFrame, ...]
    crc: int | None
    on_cpu: bool
    more: int


class _Parser:
    """One pass over one text. `pos` is the start of the line `number`; both only move forward."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.number = 1
        self.objects: list[Suspect] = []
        self.problems: list[Problem] = []
        self.dumps: list[ObjectDump] = []
        self.messages: list[Message] = []
        self._chunks: dict[str, tuple[KmemleakFrame, ...] | None] = {}
        self._lines: dict[str, KmemleakFrame | None] = {}
        self._plain: dict[str, KmemleakFrame | None] = {}

    def parse(self) -> KmemleakText:
        text, search = self.text, 0
        while (at := text.find(_TOKEN, search)) >= 0:
            start = text.rfind("\n", self.pos, at) + 1 or self.pos
            if at - start > MAX_LINE:  # no report; and passing over the line keeps the time linear
                end = text.find("\n", at)
                search = len(text) if end < 0 else end
                continue
            if start > self.pos:
                self._gap(start)
            read = (at == start and self._fast(at)) or self._slow(at)
            search = self.pos if read else at + len(_TOKEN)  # not read: the words stand in prose
        self._gap(len(text))
        return KmemleakText(tuple(self.objects), tuple(self.problems), tuple(self.dumps), tuple(self.messages))

    # --- the cursor

    def _move(self, to: int) -> None:
        self.number += self.text.count("\n", self.pos, to)
        self.pos = to

    def _line(self) -> str | None:
        """The current line without its newline; None at the end of the text. Overlong lines come cut."""
        if self.pos >= len(self.text):
            return None
        limit = self.pos + MAX_LINE + 1
        end = self.text.find("\n", self.pos, limit)
        return self.text[self.pos : limit if end < 0 else end]

    def _next(self) -> None:
        end = self.text.find("\n", self.pos)
        self.pos = len(self.text) if end < 0 else end + 1
        self.number += 1

    @property
    def _unfinished(self) -> bool:
        """Whether the current line is the last one and has no newline."""
        return self.text.find("\n", self.pos) < 0

    def _problem(self, line: int, what: str) -> None:
        self.problems.append(Problem(line, what))

    # --- plain text, as the kernel's file gives it

    def _fast(self, at: int) -> bool:
        match = _FAST.match(self.text, at)
        if match is None:
            return False
        kind, address, size, comm, pid, jiffies, age, on_cpu, crc, chunk = match.groups()
        if chunk in self._chunks:
            frames = self._chunks[chunk]
        else:
            if len(self._chunks) > _CACHE_LIMIT:
                self._chunks.clear()
            frames = self._chunks[chunk] = self._chunk_frames(chunk)
        if frames is None:
            return False
        self.objects.append(
            Suspect(
                int(address, 16),
                int(size),
                _kind_of(kind, on_cpu),
                comm,
                int(pid),
                int(jiffies),
                float(age) if age else None,
                int(crc, 16) if crc else None,
                frames,
                0,
                self.number,
            )
        )
        self._move(match.end())
        return True

    def _chunk_frames(self, chunk: str) -> tuple[KmemleakFrame, ...] | None:
        """The frames of a whole backtrace; None if any line of it needs a closer look."""
        frames = []
        plain = self._plain
        for line in chunk.splitlines():
            frame = plain[line] if line in plain else self._plain_frame(line)
            if frame is None:
                return None
            if frame is not END_MARK:
                frames.append(frame)
        return settle(frames)

    def _plain_frame(self, line: str) -> KmemleakFrame | None:
        """The frame on a line of a backtrace; None if it needs a closer look."""
        if len(self._plain) > _CACHE_LIMIT:
            self._plain.clear()
        body = line.strip()
        frame = self._plain[line] = None if is_addr2line(body) else self._frame(body)
        return frame

    def _frame(self, body: str) -> KmemleakFrame | None:
        if body in self._lines:
            return self._lines[body]
        if len(self._lines) > _CACHE_LIMIT:
            self._lines.clear()
        frame = self._lines[body] = parse_frame(body)
        return frame

    # --- everything else, line by line

    def _slow(self, at: int) -> bool:
        """Read one object whose header stands at `at` in the current line; False if there is no header."""
        first = self.number
        header = _HEADER.match(self.text, at)
        if header is None:
            claim = _CLAIMS_HEADER.match(strip(self._line() or "")[0])
            if claim and (claim["cut"] is None or self._unfinished):
                self._problem(first, "a report begins here, but its first line cannot be read")
                self._next()
                return True
            return False
        margin = Margin(self.text[max(self.pos, at - MAX_LINE - 1) : at], (self._line() or "").endswith("\r"))
        self._next()
        name = f"the report of 0x{header['address']}"
        comm = self._comm(margin)
        if comm is None:
            ended = self._line() is None
            self._problem(first, f"{name} {'ends' if ended else 'goes on'} without a readable comm line")
            return True
        body = self._body(margin, name)
        kind = header["kind"]
        if kind not in (None, SuspectKind.PERCPU, SuspectKind.PHYS):
            self._problem(first, f"{name} is of an unknown kind ({kind})")
            return True
        self.objects.append(
            Suspect(
                int(header["address"], 16),
                int(header["size"]),
                _kind_of(kind, body.on_cpu),
                comm[0],
                int(comm[1]["pid"]),
                int(comm[1]["jiffies"]),
                float(comm[1]["age"]) if comm[1]["age"] else None,
                body.crc,
                body.frames,
                body.more,
                first,
            )
        )
        return True

    def _own_line(self, margin: Margin) -> str | None:
        """Go to the next line of this report, past blank ones and lines of others; return its text."""
        for _ in range(_FOREIGN_LINES):
            line = self._line()
            if line is None or _TOKEN in line:
                return None
            body, ours = margin.strip(line)
            if ours and body:
                return body
            self._next()
        return None

    def _comm(self, margin: Margin) -> tuple[str, re.Match[str]] | None:
        """Read the comm line, which is several lines if the comm holds newlines."""
        body = self._own_line(margin)
        if body is None or not _COMM.match(body):
            return None
        line = self._line() or ""
        pieces: list[str] = []
        piece = margin.strip_end(line[line.index('comm "') + len('comm "') :])
        for _ in range(_COMM_LINES):
            tail = _PID_JIFFIES.search(piece)
            if tail:
                if self._unfinished and not tail["age"]:
                    return None  # the number may be cut
                self._next()
                return "\n".join([*pieces, piece[: tail.start()]]), tail
            self._next()
            line = self._line() or ""
            if '", pid ' in piece and _PID_JIFFIES.search(wrapped := f"{piece.rstrip()} {margin.strip(line)[0]}"):
                piece = wrapped
                continue
            pieces.append(piece)
            piece = margin.strip_part(line)
        return None

    def _body(self, margin: Margin, name: str) -> _Body:
        reader = _BodyReader(name)
        while (line := self._line()) is not None and _TOKEN not in line:
            body, ours = margin.strip(line)
            if not ours:
                if not self._continues(margin, reader, _FOREIGN_LINES):
                    break
                self._next()
                continue
            cut = self._unfinished and bool(body and _CUT_FRAME.match(body))
            if not cut and reader.take(body, self._frame(body)):
                self._next()
                continue
            if reader.ended or not body or not cut:
                if reader.ended or not self._continues(margin, reader, 2):
                    break
                # What stands among the hex dump, such as a wrapped ASCII column, is nothing that we read.
                if body and (reader.in_trace or "backtrace" in body):
                    self._problem(self.number, f"{name}: not a line of a report: {_shown(body)}")
            else:
                self._problem(self.number, f"{name}: cut off in the middle of a line: {_shown(body)}")
            self._next()
        if reader.short:
            self._problem(self.number, f"{name} breaks off before its backtrace")
        return reader.finish()

    def _continues(self, margin: Margin, reader: _BodyReader, reach: int) -> bool:
        """Whether one of the next few lines is one of this report's."""
        pos = self.pos
        for _ in range(reach):
            end = self.text.find("\n", pos)
            if end < 0:
                return False
            pos = end + 1
            end = self.text.find("\n", pos)
            line = self.text[pos : min(len(self.text) if end < 0 else end, pos + MAX_LINE + 1)]
            if _TOKEN in line:
                return False
            body, ours = margin.strip(line)
            if ours and body and reader.would_take(body, self._frame(body)):
                return True
            if ours and margin.tagged:
                return False  # kmemleak itself speaks of something else
        return False

    # --- between the reports

    def _gap(self, end: int) -> None:
        """Look for object dumps, messages and headless reports up to `end`, the start of a line."""
        if not _GAP_TOKENS.search(self.text, self.pos, end):
            self._move(end)
            return
        while self.pos < end:
            line = self._line() or ""
            if not _GAP_TOKENS.search(line):
                self._next()
                continue
            body, tagged = strip(line)
            dump = _DUMP.match(body) if tagged else None
            if dump:
                self._dump(dump, end)
                continue
            if _MESSAGE.match(body) and (tagged or _GAP_TOKENS.search(body)):
                self.messages.append(Message(self.number, body[:200]))
            elif _COMM.match(body) and _PID_JIFFIES.search(body):
                self._problem(self.number, "a report goes on here, but its first line is missing")
            self._next()

    def _dump(self, header: re.Match[str], end: int) -> None:
        first = self.number
        values: dict[str, int] = {}
        comm: tuple[str, re.Match[str]] | None = None
        frames: list[KmemleakFrame] = []
        in_trace = False
        margin = Margin(_TAG)
        self._next()
        while self.pos < end and (line := self._line()) is not None:
            body, tagged = strip(line)
            field = _DUMP_FIELD.match(body) if tagged else None
            if in_trace:
                frame = None if tagged else self._frame(body)
                if frame is None:
                    break
                if frame is not END_MARK:
                    frames.append(frame)
            elif field:
                values[field[1]] = int(field[2], 16 if field[2].startswith("0x") else 10)
            elif tagged and _COMM.match(body):
                comm = self._comm(margin)
                if comm is None:
                    break
                continue
            elif tagged and _BACKTRACE.match(body):
                in_trace = True
            elif tagged:
                break
            self._next()
        if comm is None or len(values) < 4:
            self._problem(first, f"the dump of object 0x{header['address']} is incomplete")
            return
        self.dumps.append(
            ObjectDump(
                int(header["address"], 16),
                int(header["size"]),
                comm[0],
                int(comm[1]["pid"]),
                int(comm[1]["jiffies"]),
                values["min_count"],
                values["count"],
                values["flags"],
                values["checksum"],
                settle(frames),
                first,
            )
        )


class _BodyReader:
    """Takes the lines of one object below its comm line, in the order in which the kernel prints them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frames: list[KmemleakFrame] = []
        self.notes: list[tuple[int, KmemleakFrame]] = []
        self.promised = self.seen = 0
        self.crc: int | None = None
        self.on_cpu = self.in_trace = self.ended = self.anything = False
        self.more = 0

    def would_take(self, body: str, frame: KmemleakFrame | None) -> bool:
        """Whether `take` would accept this line."""
        if frame is not None:
            return True
        if self.in_trace:
            return bool(_MORE.match(body))
        return bool(_HEX_HEAD.match(body) or _BACKTRACE.match(body) or _HEX_ROW.match(body))

    def take(self, body: str, frame: KmemleakFrame | None) -> bool:
        """Read one line; False if it is none of a report."""
        if self.ended:
            return False
        taken = self._take_trace(body, frame) if self.in_trace else self._take_hex(body, frame)
        self.anything = self.anything or taken
        return taken

    @property
    def short(self) -> bool:
        """Whether the text stopped before the bytes it promised."""
        return not self.in_trace and (not self.anything or self.seen < self.promised)

    def finish(self) -> _Body:
        """Return what was read."""
        return _Body(settle(self.frames, self.notes), self.crc, self.on_cpu, self.more)

    def _take_hex(self, body: str, frame: KmemleakFrame | None) -> bool:
        row = _HEX_ROW.match(body)
        if row and self.seen < self.promised:
            self.seen += (row.end() + 1) // 3
            return True
        head = _HEX_HEAD.match(body)
        if head:
            self.promised, self.on_cpu = int(head["bytes"]), bool(head["cpu"])
            return True
        trace = _BACKTRACE.match(body)
        if trace:
            self.in_trace = True
            self.crc = int(trace["crc"], 16) if trace["crc"] else None
            return True
        if frame is not None:  # someone cut the line that says "backtrace"
            self.in_trace = True
            return self._take_trace(body, frame)
        return bool(row)

    def _take_trace(self, body: str, frame: KmemleakFrame | None) -> bool:
        if frame is END_MARK:
            return True
        if frame is not None:
            if is_addr2line(body) and self.frames:
                self.notes.append((len(self.frames) - 1, frame))
            else:
                self.frames.append(frame)
            return True
        more = _MORE.match(body)
        if more:
            self.more = int(more["more"])
            self.ended = True
            return True
        if body.startswith("..."):
            self.ended = True
            return True
        return self._take_wrapped(body)

    def _take_wrapped(self, body: str) -> bool:
        """Read what a mail client put on a line of its own: the end of a frame, or its address."""
        if _LONE_ADDRESS.fullmatch(body):
            return True
        tail = _WRAPPED.fullmatch(body)
        if tail is None or not self.frames:
            return False
        last = self.frames[-1]
        if (tail["source"] and last.source) or (tail["module"] and last.module):
            return False
        self.frames[-1] = replace(
            last,
            module=tail["module"] or last.module,
            source=tail["source"] or last.source,
            inline=last.inline or bool(tail["inline"]),
        )
        return True


def _shown(body: str) -> str:
    return repr(body if len(body) <= 60 else body[:57] + "...")


def _kind_of(printed: str | None, on_cpu: str | bool | None) -> SuspectKind:
    """By the header's own word; where there is none, a hex dump that names a CPU is that of a per-CPU object."""
    if printed is not None:
        return SuspectKind(printed)
    return SuspectKind.PERCPU if on_cpu else SuspectKind.SLAB
