# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads reports as people have them: from logs, consoles, mails and web pages, quoted, wrapped, decoded or damaged.

What is there is read as it stands first. Only where that leaves something unread are lines mended (`reflow`) and
decoded (`decoding`), and what comes of it is taken if more could be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kleaktrace.core.kmemleak.clean_reports import CleanReports
from kleaktrace.core.kmemleak.decoding import decoded
from kleaktrace.core.kmemleak.interleaving import by_caller, came_into_each_other, has_whole_stacks, known_comms
from kleaktrace.core.kmemleak.kmemleak_text import UNREAD, Message, PartOfText, Problem, Suspect
from kleaktrace.core.kmemleak.margins import TAG, Belongs, Margin, OwnLine, OwnLines, marks_of, strip, time_of
from kleaktrace.core.kmemleak.messages import is_message, may_be_message, message_in, new_message_in, shell_error_in
from kleaktrace.core.kmemleak.object_dumps import dump_starts, read_dump
from kleaktrace.core.kmemleak.reflow import reflowed
from kleaktrace.core.kmemleak.report_grammar import (
    Comm,
    backtrace_of,
    begun_header,
    claims_header,
    comm_of,
    frame_of,
    header_in,
    is_cut_header,
    kind_from,
    starts_comm,
)
from kleaktrace.core.kmemleak.report_reader import Reading, read_headless, read_report
from kleaktrace.core.kmemleak.text_lines import MAX_LINE, Line

_MOST_LINES = 4096
"""So far the lines of one report are looked for; lines of others may stand between."""
_MOST_CHARACTERS = 1 << 15
_PART_BEHIND_WORDS = re.compile(
    r"(?<=.)(?:backtrace(?: \(crc [0-9a-f]{1,8}\))?:|comm \".{0,64}\", pid \d|hex dump \(first \d"
    r"|\[<[0-9a-f]{8,16}>\] \S|\s{4}\S{1,512}\+0x[0-9a-f]{1,16}/0x[0-9a-f]|    (?:[0-9a-f]{2} ){16}|\s{4}0x[0-9a-f]{8})"
)
_NAMES_FUNCTION = re.compile(r"\b(?:E?IP|RIP|PC|LR|pc|lr)\b(?: is at)?\s*:?|irqs last\b")
"""Registers, and what lockdep tells: functions stand behind these as in a report."""
_MOST_HEADLESS = 256
_MOST_MIXED = 8
"""Reports that are looked at to see whether they came into each other."""
_MARGIN_LOOKED_AT = 8
_WRAPS_OF_HEADER = 3
_MOST_BEFORE = 256


def read_rough(lines: Sequence[Line], is_finished: bool = True) -> PartOfText:
    """Read all that lines hold. is_finished: whether the last one has its end, or the text may be cut there."""
    as_it_is = _Walk(lines, is_finished).read()
    found = as_it_is.objects or as_it_is.dumps or as_it_is.messages
    if found and not as_it_is.problems and not as_it_is.torn:
        return as_it_is
    plain = decoded(lines)
    if plain == list(lines):
        return as_it_is
    mended = _Walk(plain, is_finished).read()
    is_better = (mended.merit, not mended.torn) > (as_it_is.merit, not as_it_is.torn)
    return mended if is_better else as_it_is


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a report begins: the index of the line, and the place on it."""

    index: int
    at: int
    is_read: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """The lines of a report up to the next one's, as they are in the text and without their margin."""

    index: int
    lines: Sequence[Line]
    own: Sequence[OwnLine]


class _Walk:
    """One pass over the lines: reports, and what stands between them."""

    def __init__(self, lines: Sequence[Line], is_finished: bool) -> None:
        self.lines = by_caller(lines)
        self.is_finished = is_finished
        self.out = PartOfText()
        self.clean = CleanReports()
        self.starts = _starts(self.lines)
        self.margin: Margin | None = None
        self.has_objects = any(start.is_read for start in self.starts)

    def read(self) -> PartOfText:
        at = number = 0
        while number < len(self.starts):
            start = self.starts[number]
            if start.index > at:
                self._between(self.lines[at : start.index])
            mixed = self._mixed(number)
            if mixed:
                at = self._take_mixed(mixed)
                number += len(mixed)
                continue
            following = self.starts[number + 1] if number + 1 < len(self.starts) else None
            at = self._report(start, following)
            number += 1
        self._between(self.lines[at:])
        for found in (self.out.problems, self.out.messages):
            found.sort()
        return self.out

    # --- reports

    def _report(self, start: _Start, following: _Start | None) -> int:
        """Read one report and what comes after it, up to the next; return the index where that begins."""
        end = len(self.lines) if following is None else following.index
        first = self.lines[start.index]
        until = following.at if following and following.index == start.index else start.at + _MOST_CHARACTERS
        rest = self.lines[start.index + 1 : min(end, start.index + _MOST_LINES)]
        if following and following.at and following.index > start.index:
            before = self.lines[end].text[: following.at]
            if strip(before)[0]:  # the report above ends on the line where this one begins
                rest.append(Line(self.lines[end].number, before))
        used = self._clean(first, start.at, rest) if until > len(first.text) else 0
        if used:
            return start.index + used
        own: Sequence[OwnLine] = _own(first, start.at, until, rest)
        numbers = [first.number, *(line.number for line in rest)]
        finished = self.is_finished or following is not None
        reading = read_report(own, finished)
        if not reading.is_clean:
            parted = reflowed(own)
            mended = read_report(parted, finished)
            # Mended, it may reach further: what could not be read there does not speak against it.
            until = numbers[min(reading.used, len(numbers)) - 1]
            has_mended = reading.torn or mended.unread(until) < reading.unread(until)
            if has_mended and mended.merit(until) > reading.merit(until):
                numbers, reading = [line.number for line in parted], mended
        self._take(reading)
        left = _left_over(numbers, reading)
        self._between([line for line in rest if line.number in left] + self.lines[start.index + 1 + _MOST_LINES : end])
        return start.index if following and following.index == start.index else max(end, start.index + 1)

    def _clean(self, first: Line, at: int, rest: Sequence[Line]) -> int:
        """Read a report that is the kernel's own but for what is before its lines; return how many they are, 0 if none.

        This is for speed: the long way would tell the same.
        """
        before = first.text[:at]
        tagged = before.rstrip().endswith(TAG)
        if not before or (not tagged and before.strip(" >|")):
            return 0
        bodies = [first.text[at:]]
        for line in rest:
            if tagged:
                place = line.text.find(TAG, 0, _MOST_BEFORE)
                body = line.text[place + len(TAG) + 1 :] if place >= 0 else ""
            else:
                body = line.text[at:] if line.text.startswith(before) else ""
            if not body or is_message(body):
                break
            bodies.append(body)
        following = rest[len(bodies) - 1].text if len(bodies) <= len(rest) else ""
        if following.strip() and not (tagged and TAG in following):
            return 0  # it may be the rest of the line above
        text = "\n".join([*bodies, ""])
        read = self.clean.read(text, 0, first.number) if "\r" not in text else None
        if read is None or read[1] != len(text):
            return 0
        self.out.objects.append(read[0])
        return len(bodies)

    def _mixed(self, number: int) -> list[_Part]:
        """The reports from this one on, each up to the first line of the next, if they came into each other."""
        last = number
        while last + 1 < len(self.starts) and last < number + _MOST_MIXED and not self._has_trace(last):
            last += 1
        if last == number:
            return []
        parts = [self._part(each) for each in range(number, last + 1)]
        return parts if came_into_each_other(parts[-1].own[1:]) else []

    def _has_trace(self, number: int) -> bool:
        """Whether there is a backtrace between the first line of a report and that of the next."""
        start, following = self.starts[number : number + 2]
        return start.index == following.index or any(
            "backtrace" in line.text for line in self.lines[start.index : following.index]
        )

    def _part(self, number: int) -> _Part:
        start = self.starts[number]
        end = self.starts[number + 1].index if number + 1 < len(self.starts) else len(self.lines)
        lines = self.lines[start.index : min(end, start.index + _MOST_HEADLESS)]
        return _Part(start.index, lines, _own(lines[0], start.at, start.at + MAX_LINE, lines[1:]))

    def _take_mixed(self, parts: Sequence[_Part]) -> int:
        """Take what is sure of reports that came into each other; return the index of what follows them."""
        comms = known_comms([part.own[1:] for part in parts])
        names = []
        for part, comm in zip(parts, comms, strict=True):
            suspect = _without_stack(part.own[0], comm)
            if suspect is not None:
                names.append(f"0x{suspect.address:08x}")
                self.out.objects.append(suspect)
        what = "backtrace" if all(comms) else "comm and backtrace"
        self.out.problems.append(
            Problem(
                parts[0].lines[0].number,
                f"the reports of {', '.join(names)} came into each other: nobody can tell whose {what} it is",
            )
        )
        is_whole = has_whole_stacks(parts[-1].own[1:])
        for part in parts:
            is_shown = is_whole and part is parts[-1]
            pairs = zip(part.lines[1:], part.own[1:], strict=True)
            self._between([line for line, own in pairs if is_shown or own.belongs is Belongs.NO])
        return parts[-1].index + len(parts[-1].lines)

    def _take(self, reading: Reading) -> None:
        if reading.suspect:
            self.out.objects.append(reading.suspect)
        if reading.stack:
            self.out.stacks.append(reading.stack)
        self.out.problems += reading.problems
        self.out.torn |= reading.torn

    # --- what stands between them

    def _between(self, lines: Sequence[Line]) -> None:
        at = 0
        after_stack = False
        while at < len(lines):
            line = lines[at]
            text = line.text
            if not text or len(text) > MAX_LINE:
                at += 1
                continue
            if TAG in text and dump_starts(text):
                dump, problem, used = read_dump(lines[at : at + _MOST_HEADLESS])
                if dump:
                    self.out.dumps.append(dump)
                if problem:
                    self.out.problems.append(problem)
                at += max(used, 1)
                continue
            is_last = not self.is_finished and line is self.lines[-1]
            if "object" in text and (claims_header(strip(text)[0]) or (is_last and is_cut_header(text))):
                self.out.problems.append(
                    Problem(line.number, "a report begins here, but its first line cannot be read")
                )
                at += 1
                continue
            used = self._message(line, lines[at + 1].text if at + 1 < len(lines) else "")
            if not used and not after_stack and self._starts_headless(lines, at):
                used = self._headless(lines[at : at + _MOST_HEADLESS])
            if not used and not after_stack and _has_part_behind_words(text):
                what = "a part of a report stands here behind the words of something else"
                self.out.problems.append(Problem(line.number, what))
            after_stack = _is_foreign_stack(text) or (after_stack and bool(text.strip()))
            at += max(used, 1)

    def _message(self, line: Line, following: str) -> int:
        """Take a message of kmemleak's; return how many lines it was on."""
        text = line.text
        said = message_in(text, following) or self._message_behind_margin(line)
        if said:
            self.out.messages.append(Message(line.number, said[0], time_of(text)))
            self.out.torn |= said[0].endswith("=")  # a soft break of quoted-printable
            return 1 + said[1]
        error = shell_error_in(text)
        if error:
            self.out.messages.append(Message(line.number, error))
            return 1
        new = new_message_in(text) if TAG in text else None
        if new:
            self.out.messages.append(Message(line.number, new, time_of(text)))
            self.out.torn |= new.endswith("=")
            return 1
        return 0

    def _message_behind_margin(self, line: Line) -> tuple[str, bool] | None:
        """What kmemleak says behind the margin that the first report has."""
        if not self.starts or not may_be_message(line.text):
            return None
        if self.margin is None:
            start = self.starts[0]
            self.margin = _margin(
                self.lines[start.index], start.at, self.lines[start.index + 1 : start.index + 1 + _MARGIN_LOOKED_AT]
            )
        own = self.margin.own(line)
        return message_in(own.text) if own.belongs is Belongs.YES else None

    def _starts_headless(self, lines: Sequence[Line], at: int) -> bool:
        """Whether the rest of a report begins here whose first line is missing."""
        text = lines[at].text
        if "+0x" not in text and "comm" not in text and "backtrace" not in text and "0x" not in text:
            return False
        body, tagged = strip(text)
        if starts_comm(body):
            comm = comm_of(body)
            return comm is not None and comm.jiffies is not None
        if backtrace_of(body):
            return True
        if frame_of(body) is None:
            return False
        if tagged:
            return True
        timed = marks_of(text).names & {"printk", "time", "kmsg"}
        is_first = not self.out.objects and not self.out.stacks
        return not timed and is_first and ("[<" in body or not self.has_objects) and "+0x" in body

    def _headless(self, lines: Sequence[Line]) -> int:
        text = lines[0].text
        body = strip(text)[0]
        reading = read_headless(_own(lines[0], text.find(body) if body else 0, MAX_LINE, lines[1:]))
        if reading.stack is None or not (reading.stack.frames or reading.stack.comm is not None):
            return 0
        if reading.stack.frames:
            self.out.stacks.append(reading.stack)
        self.out.problems.append(
            Problem(
                lines[0].number,
                "a report goes on here, but its first line is missing"
                + ("" if reading.stack.frames else ", and its backtrace"),
            )
        )
        self.out.problems += [p for p in reading.problems if "breaks off" not in p.what]
        return reading.used


def _starts(lines: Sequence[Line]) -> list[_Start]:
    """Where reports begin, also those whose first line is wrapped."""
    found: list[_Start] = []
    for index, line in enumerate(lines):
        text = line.text
        if "ferenced" not in text:
            continue
        at = 0
        while (header := header_in(text, at)) is not None:
            found.append(_Start(index, header.at, True))
            at = header.at + 1
        begun = begun_header(text[-MAX_LINE:])
        if begun is not None and not (
            found and found[-1].index == index and found[-1].at >= len(text[:-MAX_LINE]) + begun
        ):
            place = len(text[:-MAX_LINE]) + begun
            whole = text[place:]
            for follower in lines[index + 1 : index + 1 + _WRAPS_OF_HEADER]:
                whole = f"{whole} {_without_quote(follower.text)}"
                if (header := header_in(whole)) is not None and header.at == 0:
                    found.append(_Start(index, place, True))
                    break
    return found


def _without_quote(text: str) -> str:
    body, _ = strip(text)
    return body


def _is_foreign_stack(text: str) -> bool:
    """Whether a backtrace of another kind begins: of an oops, a warning, a stack dump of a task."""
    return "race:" in text and "backtrace:" not in text


def _has_part_behind_words(text: str) -> bool:
    """Whether a line of a report has come behind what another program or driver has printed.

    Lines of a backtrace of another kind have nothing but marks before their frames, and registers a name.
    """
    return _PART_BEHIND_WORDS.search(strip(text)[0]) is not None and not _NAMES_FUNCTION.search(text)


def _margin(first: Line, at: int, following: Sequence[Line]) -> Margin:
    """What stands before a report that begins at a place on a line."""
    return Margin(first.text[max(0, at - MAX_LINE) : at], [line.text for line in following])


def _own(first: Line, at: int, until: int, rest: Sequence[Line]) -> OwnLines:
    """The lines of a report whose first one begins at a place on a line, and ends on it at another at the latest."""
    margin = _margin(first, at, rest[:_MARGIN_LOOKED_AT])
    before = first.text[max(0, at - MAX_LINE) : at].expandtabs()
    indent = len(before) - len(before.rstrip())
    return OwnLines(margin, OwnLine(first.number, first.text[at:until], indent, Belongs.YES), rest)


def _without_stack(first: OwnLine, comm: Comm | None) -> Suspect | None:
    """The object of which no more is sure than its first line and perhaps its task; None if its kind is not known."""
    header = header_in(first.text)
    kind = kind_from(header.kind, False) if header else None
    if header is None or kind is None:
        return None
    suspect = Suspect(header.address, header.size, kind, "", UNREAD, UNREAD, None, None, (), line=first.number)
    if comm is None or comm.pid is None or comm.jiffies is None:
        return suspect
    return replace(suspect, comm=comm.comm, pid=comm.pid, jiffies=comm.jiffies, age_s=comm.age_s)


def _left_over(numbers: Sequence[int], reading: Reading) -> frozenset[int]:
    """Which of the lines with these numbers a report did not take: those of others, and those after its end."""
    others = set(reading.others)
    taken = {number for at, number in enumerate(numbers[: reading.used]) if at not in others}
    return frozenset({*numbers[reading.used :], *(numbers[at] for at in others)} - taken)
