# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the lines of a report together again that a mail program wrapped, refilled or made one paragraph of.

All parts of a report can be told by how they begin and end, so lines matter little: what stands on them is joined, and
parted again where the kernel does. What is none of its parts stays on lines of its own, for the reader to tell. Frames
are what people mention, too, and other messages of the kernel: only what stands where a frame can stand is one
(`_Parting`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from kleaktrace.core.kmemleak.frames import NO_ADDRESS, OFFSET, parse_frame
from kleaktrace.core.kmemleak.margins import Belongs, OwnLine
from kleaktrace.core.kmemleak.report_grammar import (
    BACKTRACE,
    COMM,
    HEADER,
    HEX_HEAD,
    MORE,
    frame_of,
    hex_head_of,
    starts_comm,
    without_glued,
)

_MOST_LINES = 400
"""A report has some forty lines, wrapped perhaps a hundred; beside lines of others."""
_LEAST_LINES = 4
"""The fewest that a report has."""
_ROW = 16
_DEEP = 99
_SENTENCE = 4
"""Words that make one."""
_MARKS = re.compile(r"[\[\]<>+@(){}=&\\|]|0x")
_BLANK = r"(?:[^\S\n]+(?:\n[^\S\n]*)?|\n[^\S\n]*)"
"""Blanks between parts of a line, of which one may be its wrap; an empty line is the end of a paragraph."""
_NAME = r"[A-Za-z_.$][^\s+<>()\[\]{}\"',;]{0,511}"
_DEMANGLED = r"<[^\n+]{1,400}?>::[\w:]{1,100}|[A-Za-z_][\w:<>~]{0,200}\([^()\n+]{0,300}\)"
_ADDRESS = r"(?:\[\s?<[^>\n]{0,32}>\s?\]|\[(?:[0-9a-f]{8,16})?\](?=\s)|<[0-9a-f]{8,16}>)"
_PLACE = r"(?:[\w./+~-]{1,500}\.\w{1,4}:\d{1,9}|\?\?:[\d?]{1,9})"
_DISCRIMINATOR = rf"(?:{_BLANK}\(discriminator{_BLANK}\d+\))?"
_IN_BRACKETS = rf"\(\s*{_PLACE}{_DISCRIMINATOR}(?:{_BLANK}{_PLACE}{_DISCRIMINATOR})*\s*\)"
_MODULE = rf"\[(?!inline\]){NO_ADDRESS}[A-Za-z_][\w.-]{{0,63}}(?:\s[0-9a-f]{{8,64}})?\]"
_TAIL = (
    rf"(?:{_BLANK}{_MODULE})?(?:{_BLANK}(?:{_IN_BRACKETS}(?:[^\S\n]+[A-Za-z_][\w-]{{0,63}}(?=[^\S\n]*(?:\n|$)))?|{_PLACE}))?"
    rf"{_DISCRIMINATOR}(?:{_BLANK}\[inline\])?(?:{_BLANK}{_MODULE})?"
)
_OFFSET = OFFSET.replace("?P<offset>", "?:").replace("?P<size>", "?:")
FRAME = (
    rf"(?:{_ADDRESS}\s*)?(?:(?:{_DEMANGLED}|{_NAME}){_OFFSET}{_TAIL}"
    rf"|{_NAME}{_BLANK}(?:{_IN_BRACKETS}|{_PLACE}){_TAIL}|0x[0-9a-f]{{8,16}}(?=\s|$)|0x0(?=\s|$))"
    rf"|(?:\(inlined\s+by\){_BLANK})?{_NAME}{_BLANK}at{_BLANK}{_PLACE}"
    rf"|{_ADDRESS}{_BLANK}{_NAME}(?:{_BLANK}{_MODULE})?(?=\s*(?:\n|$))"
)
_FRAME = re.compile(FRAME)
_ADDRESS_ONLY = re.compile(_ADDRESS)


def _anonymous(pattern: str) -> str:
    return re.sub(r"\?P<\w+>", "?:", pattern)


_PARTS = tuple(
    re.compile(_anonymous(part))
    for part in (HEADER, COMM.replace("|(?P<none>)", "").replace(r"[^\n]{0,", r"[\s\S]{0,"), HEX_HEAD, BACKTRACE, MORE)
)
_HEADER, _COMM, _HEX_HEAD, _BACKTRACE, _MORE = _PARTS
_INDENTS = {_HEADER: 0, _FRAME: 4}
_ANY_HEAD = re.compile(r"(?<![^\s>|(])(?=comm\b|hex\s+dump|backtrace|\.\.\.\s+and)")
_ANY_FRAME = re.compile(
    rf"(?<![^\s>|(])(?<!\? )(?={_ADDRESS}|\(inlined by\)|{_NAME}\s+at\s+{_PLACE}|\.\.\.\s+and"
    rf"|(?:{_DEMANGLED}|{_NAME}){_OFFSET}|0x[0-9a-f]{{8,16}}\b)"
)
_BYTE = re.compile(r"\s*([0-9a-f]{2})(?=\s|$)")
_OTHER_COLUMN = re.compile(r"\s*(?![0-9a-f]{2}\s)(?!backtrace)\S{1,16}(?=\s|$)")
"""Characters that are not those of the bytes, because somebody wrote others."""
_TAGS_WITHIN = re.compile(
    r"(?<=\S)\s+(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [\w.-]+ kernel: )?(?:<\d>)?"
    r"(?:\[\s*\d{1,10}\.\d{1,9}\](?:c\d{1,3})?\s*)?(?:\[\s*[TC]\d+\]\s*)?kmemleak:(?=\s)"
)
_STANDS_BEFORE_FRAME = re.compile(
    r"[^A-Za-z]*|(?:0x)?[0-9a-f]{8,16}:?|[^\s()\[\]]*[/.:][^\s()\[\]]*:\d+|[\w.+~-]*/[\w./+~-]*|\[[^\s\]]*\]|\(discriminator"
)
"""A word on the line of a frame that is no sentence's: marks, numbers, addresses, a piece of a path in the source."""
_WORDS_BEHIND = re.compile(r"[^\S\n]+[A-Za-z]{2,}[^\S\n]+[A-Za-z]{2,}\b")
_ENDS_IN_WORDS = re.compile(r"(?:^|\s)[A-Za-z]{2,}[^\S\n]+[A-Za-z]{2,}$")
_LOOKED_AHEAD = 8
_GLUED_BEHIND = re.compile(r"(?:\[\s*\d{1,10}\.\d{1,9}\][^\n]*)?")
_CUT = re.compile(r"(?:\[<[^>]{0,32}>\]\s*)?[A-Za-z_.$][\w.$]*(?:\+(?:0(?:x[0-9a-f]*(?:/(?:0(?:x[0-9a-f]*)?)?)?)?)?)?$")


def reflowed(lines: Sequence[OwnLine]) -> list[OwnLine]:
    """Return the lines of one report as the kernel prints them, each with the number of the line where it began."""
    kept = [line for line in _mended(_single_spaced(lines[:_MOST_LINES])) if line.belongs is not Belongs.NO]
    foreign = [line for line in lines[:_MOST_LINES] if line.belongs is Belongs.NO]
    return sorted([*_Parting(kept).parts(), *foreign], key=lambda line: line.number) + list(lines[_MOST_LINES:])


def _single_spaced(lines: Sequence[OwnLine]) -> Sequence[OwnLine]:
    """The lines without empty ones, as far as every second one is empty."""
    end = next(
        (at for at, (one, following) in enumerate(pairwise(lines), 1) if one.body and following.body), len(lines)
    )
    full = [line for line in lines[:end] if line.body]
    if len(full) < _LEAST_LINES:
        return lines
    last_empty = [line for line in lines[:end] if not line.body][-1:]
    return [*full[:-1], *last_empty, full[-1], *lines[end:]] if end < len(lines) else full


def _mended(lines: Sequence[OwnLine]) -> list[OwnLine]:
    """Join lines that a narrow screen or another message cut in the middle of a word."""
    mended: list[OwnLine] = []
    for line in lines:
        last = mended[-1] if mended else None
        if last is not None and line.body and last.belongs is not Belongs.NO and line.belongs is not Belongs.NO:
            head, _ = without_glued(last.body)
            if _CUT.search(head) and len(head) + len(line.body) < 1024:
                whole = head + line.body
                if _is_better(whole, head, line.body):
                    mended[-1] = last._replace(text=whole)
                    continue
        mended.append(line)
    return mended


def _is_better(whole: str, head: str, rest: str) -> bool:
    """Whether two pieces make a frame together, and did not stand for themselves."""
    if frame_of(whole) is None or _FRAME.fullmatch(whole) is None or _FRAME.fullmatch(f"{head} {rest}"):
        return False
    begun = parse_frame(head)
    if begun is None or (begun.symbol and begun.offset is None):
        return not _ADDRESS_ONLY.fullmatch(head)
    return frame_of(rest) is None and not rest.startswith("[")


class _Paragraph:
    """The bodies of lines, joined; it knows on which line each place was."""

    def __init__(self, lines: Sequence[OwnLine]) -> None:
        bodies = [_TAGS_WITHIN.sub("\n", _without_message(line.body)) for line in lines]
        self.text = "\n".join(bodies)
        self._lines = lines
        self._empty = list(accumulate(map(_is_empty, lines, [*lines[1:], None]), initial=0))
        self._starts: list[int] = []
        length = 0
        for body in bodies:
            self._starts.append(length)
            length += len(body) + 1

    def place(self, at: int) -> tuple[OwnLine, str]:
        """The line that a place is on, and what stands before it there."""
        return self._lines[bisect_right(self._starts, at) - 1], self.text[self.text.rfind("\n", 0, at) + 1 : at]

    def follows_margin(self, at: int) -> bool:
        """Whether the line above a place has nothing but a margin: a program wrapped it there."""
        index = bisect_right(self._starts, at) - 1
        return index > 0 and not self._lines[index - 1].body and not _is_empty(*self._lines[index - 1 : index + 1])

    def has_empty_line(self, start: int, end: int) -> bool:
        """Whether an empty line is between two places."""
        first, last = bisect_right(self._starts, start), bisect_right(self._starts, end) - 1
        return first < last and self._empty[last] > self._empty[first]

    def lines_behind(self, at: int, count: int) -> Sequence[OwnLine]:
        """So many lines that follow the one of a place."""
        index = bisect_right(self._starts, at)
        return self._lines[index : index + count]

    def line(self, start: int, end: int, indent: int) -> OwnLine:
        """What stands from `start` to `end`, as a line of its own."""
        number = self._lines[bisect_right(self._starts, start) - 1].number
        return OwnLine(number, " ".join(self.text[start:end].split()), indent, Belongs.YES)

    def lines(self, start: int, end: int) -> Iterator[OwnLine]:
        """The same, as the lines that it stood on; what an answer says of frames stays an answer."""
        at = start
        for piece in self.text[start:end].rstrip(" \t").removesuffix("\n").split("\n"):
            place = bisect_right(self._starts, at) - 1
            original = self._lines[place]
            is_whole = at == self._starts[place]
            if is_whole and (original.is_quoted or original.belongs is Belongs.BARE) and _FRAME.match(original.body):
                yield original
            else:
                # Behind a part, what has such marks is more likely one that was not understood than a sentence.
                indent = original.indent if is_whole else _DEEP if _is_unlike_words(piece) else 0
                yield self.line(at, at + len(piece), indent)
            at += len(piece) + 1


def _is_empty(line: OwnLine, following: OwnLine | None) -> bool:
    """Whether a line is empty, and not one of which a program wrapped all but the margin."""
    return not line.body and not (line.belongs is Belongs.YES and following and following.belongs is Belongs.BARE)


def _is_unlike_words(piece: str) -> bool:
    return bool(_MARKS.search(piece)) and len(piece.split()) < _SENTENCE


def _without_message(body: str) -> str:
    """The line without a message of the kernel that came into it; both, where it may have cut a number or a word."""
    before, message = without_glued(body)
    is_cut = (before[-1:].isalnum() and "+0x" not in before) or starts_comm(body)  # the age may be behind it
    return before if message and not is_cut and any(part.search(before) for part in (*_PARTS, _FRAME)) else body


class _Parting:
    """One pass over a paragraph. `covered` is where the last part ends that was found.

    What is learned on the way says where a frame can stand: `indent` is that of the first one if each has a line of its
    own, and `is_flowed` whether parts follow each other on lines.
    """

    def __init__(self, lines: Sequence[OwnLine]) -> None:
        self.paragraph = _Paragraph(lines)
        self.text = self.paragraph.text
        self.covered = 0
        self.in_trace = False
        self.indent: int | None = None
        self.is_flowed = False
        self.is_quoted = False
        self.has_frames = False
        self.has_own_frames = False

    def parts(self) -> Iterator[OwnLine]:
        """The lines as the kernel prints them, and what is none of them."""
        text, paragraph = self.text, self.paragraph
        at = _after_blanks(text, 0)
        while at < len(text):
            if self._ends_before(at):
                behind = text.index("\n", self.covered) + 1
                yield from (line._replace(indent=0) for line in paragraph.lines(behind, len(text)))
                return
            end, part = self._part_at(at)
            if part is None:
                end = self._next_part(at)
                yield from paragraph.lines(at, end)
            else:
                if part is _COMM:
                    end = _GLUED_BEHIND.match(text, end).end()  # type: ignore[union-attr]
                yield paragraph.line(at, end, _INDENTS.get(part, 2))
                self._learn(at, part)
            if part is _HEX_HEAD:
                for row, start, after in _rows(text, end, _promised(text[at:end])):
                    yield paragraph.line(start, start, 4)._replace(text=row)
                    end = after
            if part is not None:
                self.covered = end
            at = _after_blanks(text, end)

    def _part_at(self, at: int) -> tuple[int, re.Pattern[str] | None]:
        for part in (_MORE, _FRAME) if self.in_trace else (*_PARTS, _FRAME):
            found = part.match(self.text, at)
            if found and (part is not _FRAME or self._can_be_frame(at, found.end())):
                return found.end(), part
        return at, None

    def _next_part(self, at: int) -> int:
        heads = _ANY_FRAME if self.in_trace else _ANY_HEAD
        found = heads.search(self.text, at + 1)
        while found and (self._part_at(found.end())[1] is None or self._is_behind_empty_line(at, found.end())):
            found = heads.search(self.text, found.end() + 1)
        return found.end() if found else len(self.text)

    def _learn(self, at: int, part: re.Pattern[str]) -> None:
        line, before = self.paragraph.place(at)
        self.is_flowed |= bool(before.strip())
        if part is _FRAME:
            if not self.has_frames:
                self.is_quoted = line.is_quoted
                self.indent = None if before.strip() else line.indent
            self.has_frames = True
            self.has_own_frames |= line.belongs is Belongs.YES
        self.in_trace |= part is _BACKTRACE or part is _FRAME

    def _is_behind_empty_line(self, start: int, at: int) -> bool:
        return self.has_frames and self.paragraph.has_empty_line(start, at)

    def _ends_before(self, at: int) -> bool:
        """Whether the report is over: what follows an empty line behind its frames is none of them."""
        if not self._is_behind_empty_line(self.covered, at) or _MORE.match(self.text, at):
            return False
        return self.is_flowed or self._part_at(at)[1] is None or self._is_further_out(at)

    def _is_further_out(self, at: int) -> bool:
        """Whether a line begins further left than the first frame, where each frame has a line of its own."""
        return not self.is_flowed and self.indent is not None and self.paragraph.place(at)[0].indent < self.indent

    def _can_be_frame(self, at: int, end: int) -> bool:
        """Whether what looks like a frame stands where one can, and is not only mentioned there."""
        line, before = self.paragraph.place(at)
        if before.strip():
            gap = self.text[max(self.covered, at - len(before)) : at]
            return all(_STANDS_BEFORE_FRAME.fullmatch(word) for word in gap.split())
        if not self.has_frames:
            return True
        if self.paragraph.follows_margin(at):
            return not _WORDS_BEHIND.match(self.text, end)
        # What a program wraps of the line of a frame does not begin with another one.
        is_answer = (line.belongs is not Belongs.YES and self.has_own_frames) or (line.is_quoted and not self.is_quoted)
        if is_answer or (not self._is_set_in(line) and self._is_in_sentence(at)):
            return False
        if self.is_flowed:
            return True
        is_in_place = not self._is_further_out(at) or "+0x" not in self.text[at:end] or self._frames_go_on(end)
        return is_in_place and not _WORDS_BEHIND.match(self.text, end)

    def _is_set_in(self, line: OwnLine) -> bool:
        return not self.is_flowed and bool(self.indent) and line.indent >= (self.indent or 0)

    def _is_in_sentence(self, at: int) -> bool:
        """Whether the line above ends in words, so that it may go on where this one begins."""
        above = self.text[self.covered : at].rstrip().rpartition("\n")[2]
        return bool(_ENDS_IN_WORDS.search(above))

    def _frames_go_on(self, at: int) -> bool:
        """Whether a frame that is set in follows before the next empty line."""
        for line in self.paragraph.lines_behind(at, _LOOKED_AHEAD):
            if not line.body:
                break
            if line.indent >= (self.indent or 0) and _FRAME.match(line.body):
                return True
        return False


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _promised(hex_head: str) -> int:
    head = hex_head_of(" ".join(hex_head.split()))
    return head.promised if head else 0


def _rows(text: str, at: int, promised: int) -> Iterator[tuple[str, int, int]]:
    """The rows of a hex dump, as bytes in words, with where each begins and ends; ASCII columns are passed over."""
    for left in range(promised, 0, -_ROW):
        row: list[str] = []
        start = end = at
        while len(row) < min(_ROW, left) and (found := _BYTE.match(text, end)):
            start = start if row else found.start(1)
            row.append(found[1])
            end = found.end()
        if not row:
            return
        at = _after_ascii(text, end, bytes.fromhex("".join(row)))
        yield " ".join(row), start, at


def _after_ascii(text: str, at: int, row: bytes) -> int:
    """Where the column of characters ends, as far as it is there: blanks in it may be lost."""
    end = at
    for byte in row:
        place = _after_blanks(text, end)
        character = chr(byte) if 0x20 < byte < 0x7F else " " if byte == 0x20 else "."
        if character == " ":
            continue
        if not text.startswith(character, place):
            found = _OTHER_COLUMN.match(text, at) if end == at else None
            return found.end() if found else end
        end = place + 1
    return end
