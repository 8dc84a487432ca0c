# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads one object from its lines, which have no margin any more, in the order in which the kernel prints them.

Each line is read, or told as a problem, or is plainly not of the report: other marks stand before it, or it comes
after the report's end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from kleaktrace.core.kmemleak.frames import END_MARK, KmemleakFrame, is_addr2line, settle
from kleaktrace.core.kmemleak.kmemleak_text import UNREAD, LooseStack, Problem, Suspect
from kleaktrace.core.kmemleak.margins import Belongs, OwnLine
from kleaktrace.core.kmemleak.messages import is_message
from kleaktrace.core.kmemleak.report_grammar import (
    MOST_COMM,
    Comm,
    Header,
    HexHead,
    backtrace_of,
    comm_of,
    frame_of,
    header_in,
    hex_head_of,
    hex_row_of,
    is_cut,
    is_remark,
    kind_from,
    last_part_of_comm,
    more_of,
    starts_comm,
    without_glued,
)

_FOREIGN_LINES = 64
"""Lines of others that may stand between two lines of one report in a log."""
_REACH = 2 * _FOREIGN_LINES
_BLANK_LINES = 2
_UNREAD_LINES = 8
"""Lines that cannot be read which may stand among those of a report."""
_COMM_LINES = 17  # a comm is at most 15 bytes, any of which may be a newline
_ROW = 16
_LOOKS_LIKE_FRAME = re.compile(r"\+0x[0-9a-f]|\[<|0x[0-9a-f]{6}|^[A-Za-z_][\w.]*$|^\?")
_HAS_FRAME = re.compile(r"[\w.]\+0x[0-9a-f]+/0x[0-9a-f]|\[<[^>]{0,32}>\]|(?:^|\s)0x[0-9a-f]{8}")
_FRAME_BEHIND = re.compile(r"\S\s{3,}(?:\[<[^>]{0,32}>\]|[^\s+]+\+0x[0-9a-f]+/0x|0x[0-9a-f]{8})|backtrace(?: \(crc|:)")
_CUT_FRAME = re.compile(  # a frame whose end is missing
    r"\[<[^>]{0,32}$|(?:\[<[^>]{0,32}>\]\s*)?(?:[A-Za-z_$][\w.$]*(?:\+(?:0(?:x[0-9a-f]*(?:/(?:0x?)?)?)?)?)?)?$"
)
_REST_OF_FRAME = re.compile(r"\[[\w.-]{1,64}\]|\(?[^\s()\[\]:]+\.\w{1,4}:\d+|\(discriminator")
_NEVER_OF_REPORT = re.compile(
    r"(?:Fixes|Cc|Link|Closes|[A-Z][a-z]+(?:-[a-z]+)*-by): |BUG: memory leak|Call [Tt]race:|```|\{code|\}\}\}|</?\w+>$"
    r"|-{3,}$|={3,}$|\$|#\s|~\s*$"
)
_OF_THE_KERNEL = re.compile(
    r"(?:BUG|WARNING|INFO|Oops|Kernel panic)\b.{0,40}[:#]|general protection fault|Unable to handle|CPU: \d"
    r"|(?:[RE]?IP|[Pp][Cc]|[Ll][Rr]|[Ss][Pp]|NIP|epc|ra|Workqueue)\s*(?::|\[)|(?:hard|soft)irqs last\b"
    r"|(?:initcall|calling)\s"
)
"""How messages of the kernel begin that name functions as backtraces do, if no time stands before them."""


@dataclass(slots=True)
class Reading:
    """What was read of one object: `used` lines are its own, and those with an index in `others` among them are not.

    Of one whose first line is missing there is a `stack`.
    """

    suspect: Suspect | None = None
    stack: LooseStack | None = None
    problems: list[Problem] = field(default_factory=list)
    used: int = 0
    others: list[int] = field(default_factory=list)
    torn: bool = False
    """Whether lines were passed over that may be the rest of those above them."""

    def merit(self, until: int) -> int:
        """More is better: what was read, less what could not be up to a line, by its number."""
        frames = self.suspect.frames if self.suspect else self.stack.frames if self.stack else ()
        told = (
            0
            if self.suspect is None
            else (self.suspect.pid != UNREAD) + (self.suspect.jiffies != UNREAD) + (self.suspect.age_s is not None)
        )
        said = sum(bool(f.source) + bool(f.module) for f in frames)
        return 8 * (2 * len(frames) + told - self.unread(until)) + said

    def unread(self, until: int) -> int:
        """How much could not be read up to a line, by its number."""
        return sum(problem.line <= until for problem in self.problems)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left to be mended."""
        return not self.problems and not self.torn


def read_report(lines: Sequence[OwnLine], is_finished: bool = True) -> Reading:
    """Read the object whose first line is the first of `lines`; they end before the next one's.

    is_finished: whether the last of the lines has an end, or the text may have been cut in it.
    """
    return _Reader(lines, is_finished).report()


def read_headless(lines: Sequence[OwnLine], is_finished: bool = True) -> Reading:
    """Read what is left of an object whose first line is missing."""
    return _Reader(lines, is_finished).headless()


class _Reader:
    """One pass over the lines of one object; `at` only moves forward."""

    def __init__(self, lines: Sequence[OwnLine], is_finished: bool) -> None:
        self.lines = lines
        self.at = 0
        self.is_finished = is_finished
        self.name = "this report"
        self.out = Reading()
        self.untagged = False
        self.indent: int | None = None
        self.is_quoted = False
        self.passed: list[int] = []
        self.frames: list[KmemleakFrame] = []
        self.notes: list[tuple[int, KmemleakFrame]] = []
        self.contents = bytearray()
        self.promised: HexHead | None = None
        self.crc: int | None = None
        self.more = 0
        self.has_backtrace = False

    def report(self) -> Reading:
        first = self.lines[0]
        header = header_in(first.body)
        if header is None or header.at:
            self._problem(first.number, "a report begins here, but its first line cannot be read")
            self.at = 1
            return self._done()
        self.name = f"the report of 0x{header.address:08x}"
        self.at = 1
        if header.rest and not is_remark(header.rest):
            self._problem(first.number, f"{self.name}: not read: {_shown(header.rest)}")
        comm = self._comm()
        told = len(self.out.problems)
        self._body()
        if comm is None and not self.frames and not self.contents:
            del self.out.problems[told:]  # there is nothing but the first line
        else:
            self.out.suspect = self._suspect(header, comm, first.number)
        return self._done()

    def headless(self) -> Reading:
        first = self.lines[0].number
        comm = self._comm(is_needed=False)
        self._body()
        frames = settle(self.frames, self.notes)
        self.out.stack = LooseStack(
            frames, comm.comm if comm else None, comm.pid if comm and comm.pid is not None else None, first
        )
        return self._done()

    def _done(self) -> Reading:
        self.out.used = max(self.at, 1)
        self.out.problems.sort()
        return self.out

    def _problem(self, line: int, what: str) -> None:
        self.out.problems.append(Problem(line, what))

    # --- the lines

    def _own(self) -> OwnLine | None:
        """Go to the next line of this report, past lines of others; None if it ends before."""
        passed: list[int] = []
        torn = False
        for at in range(self.at, min(self.at + _REACH, len(self.lines))):
            line = self.lines[at]
            if line.belongs is Belongs.YES or (self.untagged and line.belongs is Belongs.UNTAGGED):
                if line.body and is_message(line.body):
                    passed.append(at)
                elif line.body:
                    self.at = at
                    self.out.others += passed
                    self.passed = passed
                    self.out.torn |= torn
                    return line
                continue
            if line.belongs is Belongs.BARE:
                if line.body:
                    torn = True
                else:
                    continue
            passed.append(at)
            if len(passed) > _FOREIGN_LINES:
                break
        self._look_at_what_follows()
        return None

    def _look_at_what_follows(self) -> None:
        """See whether the line after the last one may have held a part of this report."""
        if self.at >= len(self.lines):
            return
        line = self.lines[self.at]
        if line.belongs is Belongs.BARE and line.body:
            self.out.torn = True
        elif line.belongs is Belongs.NO and _FRAME_BEHIND.search(line.body):
            self._problem(line.number, f"{self.name}: another message came into a line: {_shown(line.body)}")

    @property
    def _is_last(self) -> bool:
        return not self.is_finished and self.at == len(self.lines) - 1

    def _comm(self, is_needed: bool = True) -> Comm | None:
        line = self._own()
        if line is None or not starts_comm(line.body):
            if is_needed:
                ended = line is None and self._rest_is_empty()
                self._problem(
                    self.lines[0].number, f"{self.name} {'ends' if ended else 'goes on'} without a readable comm line"
                )
            return None
        comm = comm_of(line.body)
        if comm and comm.jiffies is not None and not comm.rest:
            if self._is_last and comm.age_s is None:  # the number may be cut
                self._problem(line.number, f"{self.name} ends in the middle of its comm line")
                return None
            self.at += 1
            return comm
        long = self._long_comm(line)
        if long is not None:
            return long
        self.at += 1
        return self._odd_comm(line)

    def _odd_comm(self, line: OwnLine) -> Comm | None:
        """Read what can be read of a comm line, and tell what cannot."""
        text, glued = without_glued(line.body)
        comm = comm_of(text)
        if comm is None or (self.at - 1 == len(self.lines) - 1 and not self.is_finished):
            self._problem(line.number, f"{self.name}: the comm line cannot be read: {_shown(line.body)}")
            return None
        if comm.pid is None or comm.jiffies is None:
            missing = "its pid and jiffies" if comm.pid is None else "its jiffies"
            self._problem(line.number, f"{self.name}: the comm line does not tell {missing}: {_shown(line.body)}")
        elif glued and comm.age_s is None:
            self._problem(line.number, f"{self.name}: another message cuts the comm line: {_shown(line.body)}")
            comm = comm._replace(jiffies=None)
        if comm.rest and not is_remark(comm.rest):
            self._problem(line.number, f"{self.name}: not read: {_shown(comm.rest)}")
        return comm

    def _long_comm(self, line: OwnLine) -> Comm | None:
        """Read a comm that holds newlines: it is short, and nothing else of the report is in it."""
        if 'comm "' not in line.text:
            return None
        raw = line.raw if 'comm "' in line.raw else line.text
        end = "\r" if self.lines[0].text.endswith("\r") else ""  # else it is the comm's
        pieces = [raw[raw.index('comm "') + len('comm "') :].removesuffix(end)]
        for at in range(self.at + 1, min(self.at + _COMM_LINES, len(self.lines))):
            part = self.lines[at]
            if part.belongs is Belongs.NO or hex_head_of(part.body) or backtrace_of(part.body) or header_in(part.body):
                return None
            text = (part.raw or part.text).removesuffix(end)
            last = last_part_of_comm(text)
            if last is None:
                pieces.append(text)
            if sum(map(len, pieces)) + len(pieces) > 2 * MOST_COMM:
                return None
            if last is not None:
                if at == len(self.lines) - 1 and not self.is_finished and last.age_s is None:
                    return None
                self.at = at + 1
                return last._replace(comm="\n".join([*pieces, last.comm]))
        return None

    def _rest_is_empty(self) -> bool:
        return not any(line.body for line in self.lines[self.at : self.at + _REACH])

    # --- hex dump and backtrace

    def _body(self) -> None:
        while (line := self._own()) is not None:
            if not (self._trace_line(line) if self.has_backtrace else self._hex_line(line)):
                break
        if not self.has_backtrace and (self.promised is None or len(self.contents) < self.promised.promised):
            self._problem(self._last_number(), f"{self.name} breaks off before its backtrace")

    def _last_number(self) -> int:
        return self.lines[min(self.at, len(self.lines) - 1)].number

    def _hex_line(self, line: OwnLine) -> bool:
        """Read one line before the backtrace; False if the report ends before it."""
        body = line.body
        promised = self.promised.promised if self.promised else 0
        row = hex_row_of(body)
        if row and len(self.contents) < promised:
            self.contents += row[: min(_ROW, promised - len(self.contents))]
        elif head := hex_head_of(body):
            self.promised = head
        elif trace := backtrace_of(body):
            self._begin_trace(line)
            self.crc = trace[0]
            if trace[1] and not is_remark(trace[1]):
                self._problem(line.number, f"{self.name}: not read: {_shown(trace[1])}")
        elif (frame := frame_of(body)) is not None and not row:  # someone cut the line that says "backtrace"
            self._begin_trace(line)
            self._add(line, frame)
        elif _is_row(body) or is_cut(body):
            pass
        elif self._report_goes_on() or self._is_indented(line) or "backtrace" in body or "hex dump" in body:
            # What stands among the hex dump, such as a wrapped ASCII column, is nothing that we read.
            if not self.promised or len(body) > _ROW or "backtrace" in body:
                self._unread(line)
        else:
            return False
        self.at += 1
        return True

    def _is_indented(self, line: OwnLine) -> bool:
        """Whether a line stands further in than the report's first, with no empty line above it."""
        return line.indent > self.lines[0].indent and bool(self.lines[self.at - 1].body)

    def _begin_trace(self, line: OwnLine) -> None:
        self.has_backtrace = True
        self.indent = line.indent
        following = self.lines[self.at + 1] if self.at + 1 < len(self.lines) else None
        self.untagged = bool(following and following.belongs is Belongs.UNTAGGED and frame_of(following.body))

    def _trace_line(self, line: OwnLine) -> bool:
        """Read one line of the backtrace; False if it ends before it."""
        body = line.body
        if self._is_last and _CUT_FRAME.match(body):
            self._problem(line.number, f"{self.name}: cut off in the middle of a line: {_shown(body)}")
            self.at += 1
            return True
        frame = frame_of(body)
        if frame is None:
            cut, glued = without_glued(body)
            frame = frame_of(cut) if glued else None
            if frame is not None and frame.offset is None:
                frame = None  # the rest of it may come after the message
        if frame is not None and self._is_of_another(line):
            return False
        if frame is not None:
            self._add(line, frame)
        elif (more := more_of(body)) is not None:
            self.more = more
            self.at += 1
            return False
        elif is_cut(body):
            return self._after_cut()
        elif not self._is_anothers(body) and (self._frames_go_on(line) or self._is_unread_frame(line)):
            self._unread(line)
        else:
            self.out.torn |= bool(_REST_OF_FRAME.match(body))
            return False
        self.at += 1
        return True

    def _after_cut(self) -> bool:
        """An author left frames out: those that follow, if any, are the same report's."""
        self.at += 1
        following = self._peek()
        return following is not None and frame_of(following.body) is not None

    def _is_of_another(self, line: OwnLine) -> bool:
        """Whether a frame stands further out than those above, and comes after a blank line or is the last one.

        One that is quoted stands elsewhere, too, if those above are not.
        """
        if not self.frames or self.indent is None:
            return False
        is_answer = line.is_quoted and not self.is_quoted
        if line.indent >= self.indent and not is_answer:
            return False
        if not self.lines[self.at - 1].body:
            return True
        is_outside = is_answer or line.indent <= self.lines[0].indent
        if not is_outside or "+0x" not in line.body or self._frames_go_on(line):
            return False
        self._unread(line)
        return True

    def _is_anothers(self, body: str) -> bool:
        """Whether a line behind frames names a task, as it stands before a backtrace: another report goes on there."""
        comm = comm_of(body) if self.frames and starts_comm(body) else None
        return comm is not None and comm.jiffies is not None

    def _add(self, line: OwnLine, frame: KmemleakFrame) -> None:
        for at in self.passed:
            other = self.lines[at]
            if other.belongs is Belongs.NO and _HAS_FRAME.search(other.body):
                self._problem(other.number, f"{self.name}: a frame of something else in the log: {_shown(other.body)}")
        self.passed = []
        if frame is END_MARK:
            return
        if is_addr2line(line.body) and self.frames:
            self.notes.append((len(self.frames) - 1, frame))
        else:
            self.frames.append(frame)
            if len(self.frames) == 1:
                self.indent = line.indent
                self.is_quoted = line.is_quoted

    def _unread(self, line: OwnLine) -> None:
        self._problem(line.number, f"{self.name}: not a line of a report: {_shown(line.body)}")

    def _peek(self) -> OwnLine | None:
        """The next line of this report after the current one, without going there."""
        for line in self.lines[self.at : self.at + _BLANK_LINES + 1]:
            if line.body and line.belongs is Belongs.YES:
                return line
        return None

    def _report_goes_on(self) -> bool:
        """Whether one of the next few lines is one of this report's."""
        ahead = [
            line
            for line in self.lines[self.at + 1 : self.at + _UNREAD_LINES]
            if line.belongs is Belongs.YES and line.body
        ]
        return any(
            frame_of(line.body) or hex_head_of(line.body) or backtrace_of(line.body) or _is_row(line.body)
            for line in ahead[:3]
        )

    def _frames_go_on(self, line: OwnLine) -> bool:
        """Whether frames follow before the next blank line, so that this one stands among them."""
        if _NEVER_OF_REPORT.match(line.body):
            return False
        for ahead in self.lines[self.at + 1 : self.at + 1 + _UNREAD_LINES]:
            if ahead.belongs in (Belongs.NO, Belongs.BARE, Belongs.UNTAGGED):
                continue
            if not ahead.body or _NEVER_OF_REPORT.match(ahead.body):
                return False
            if frame_of(ahead.body) is not None:
                return not self.indent or ahead.indent >= self.indent
        return False

    def _is_unread_frame(self, line: OwnLine) -> bool:
        """Whether a line at the end of a backtrace must have been meant as one of it."""
        if _NEVER_OF_REPORT.match(line.body) or _OF_THE_KERNEL.match(line.body):
            return False
        after_blank = self.at > 0 and not self.lines[self.at - 1].body
        if after_blank:
            return line.body.startswith("[<") or (not self.frames and "+0x" in line.body)
        is_set_off = self.indent is not None and self.indent > self.lines[0].indent
        if (self.frames and is_set_off and line.indent >= (self.indent or 0)) or _HAS_FRAME.search(line.body):
            return True
        if not self.frames and self.indent is not None and line.indent > self.indent:
            return True
        return bool(_LOOKS_LIKE_FRAME.search(line.body)) and line.indent >= (self.indent or 0)

    def _suspect(self, header: Header, comm: Comm | None, line: int) -> Suspect | None:
        kind = kind_from(header.kind, bool(self.promised and self.promised.on_cpu))
        if kind is None:
            self._problem(line, f"{self.name} is of an unknown kind ({header.kind})")
            return None
        return Suspect(
            header.address,
            header.size,
            kind,
            comm.comm if comm else "",
            UNREAD if comm is None or comm.pid is None else comm.pid,
            UNREAD if comm is None or comm.jiffies is None else comm.jiffies,
            comm.age_s if comm else None,
            self.crc,
            settle(self.frames, self.notes),
            self.more,
            line,
            bytes(self.contents),
        )


def _is_row(body: str) -> bool:
    row = hex_row_of(body)
    return row is not None and len(row) > 1


def _shown(body: str) -> str:
    return repr(body if len(body) <= 60 else body[:57] + "...")
