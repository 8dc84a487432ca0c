# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds what mails, logs and consoles put in front of a line of kmemleak's, and takes it off the lines that go with it.

There is one way for all kinds of lines. Marks that are known (times, printk's own, syslog's, quotes) are taken off by
`strip`. What stands before the first line of a report, known or not, is the report's margin: whatever has the same
before it, numbers apart, may be a line of that report, and what has other marks is not (`Margin`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, overload

from kleaktrace.core.kmemleak.text_lines import MAX_LINE, Line

TAG = "kmemleak:"
"""What the kernel puts before all lines of kmemleak's that go to its log."""

_DATE = r"\d{4}[-/.]\d\d[-/.]\d\d[T ]\s?|\d\d[-/.]\d\d[-/.]\d{2,4}\s|\d\d[-/]\d\d\s"
_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|\s?[+-]\d\d:?\d\d)?"
_ZONE = r"(?:\s(?:[A-Z]{3,4}|[+-]\d{4})(?=\s))?"
_MONTH = (
    r"(?:\w{2,5}[.,]{0,2}\s{1,2})?\w{3,5}\.?\s[ \d]?\d\s(?:\d{4}\s)?"
    r"|(?:\w{2,5}[.,]{0,2}\s)?[ \d]?\d\.?\s\w{3,5}\.?\s(?:\d{4}\s)?"
)
_MARKS: tuple[tuple[str, str], ...] = (
    ("blank", r"\s+"),
    ("colour", r"\x1b\[[0-9;?]{0,16}[A-Za-z]|(?:\\x1b|\\033|\^\[|#033)\[[0-9;]{0,16}m"),
    ("quote", r"[>|\u2502](?:\s*[>|\u2502])*"),
    ("comment", r"(?:#{1,8}|//+|\*|--|%|;+|/\*)(?=\s)"),
    ("kmsg", r"\d{1,4},\d{1,20},\d{1,20},[^;\n]{0,32};"),
    ("unix_time", r"\d{10}\.\d{3,6}(?=\s)"),
    ("time", rf"(?:[A-Z][a-z]{{2}}\s)?(?:{_DATE}|{_MONTH})?(?<!\d){_TIME}{_ZONE}(?:\s\d{{4}}(?=\s))?"),
    ("number", r"\d{1,9}(?:[:|\t]|-(?=\s)|(?=\s{1,8}(?:\w{3}\s[ \d]\d\s)?\d\d:\d\d:\d\d))"),
    ("level", r"<\d{1,3}>|\[(?:stdout|stderr|stdlog)\]|(?:WARN|WARNING|INFO|DEBUG|ERROR|NOTICE)\s?[:|]"),
    ("facility", r"(?:kern|user|daemon|syslog)\s*:\s*(?:emerg|alert|crit|err|warn|notice|info|debug)\s*:"),
    # printk's time, deltas of dmesg -d; Android has the processor behind it
    ("printk", r"\[\s*[+<]?\s*\d{1,10}\.\d{1,9}[^\[\]\n]{0,24}\](?:c\d{1,3}\b)?"),
    ("date", r"\[[A-Z][a-z]{2}[ \d][^\[\]<>\n]{0,30}\d\d:\d\d[^\[\]<>\n]{0,12}\]"),  # dmesg -T, dmesg -e
    ("boxed_time", rf"\[(?:{_DATE}|{_MONTH})?{_TIME}{_ZONE}\]"),
    ("caller", r"\[\s*[TC]\d{1,10}\]"),
    ("host", r"(?:[\w.:@-]{1,64}\s)?(?:(?:kern|user)\.\w{1,8}\s)?kernel(?:\[\d*\])?:"),  # syslog, journal, BusyBox
    ("logcat", r"\d{1,6}\s+\d{1,6}\s[VDIWEF]\s(?:kernel\s*:)?|[VDIWEF]/[\w.-]{1,32}\s*\(\s*\d{1,7}\):"),
    ("tag", TAG),
)
_MARK = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _MARKS))
_PATTERNS = {name: f"(?:{pattern})" for name, pattern in _MARKS} | {
    "blank": "",
    "colour": "",
    "quote": r"(?:[>|\u2502]\s*+)++",
    "caller": r"(?:\[\s*[TC]\d{1,10}\])?",
}
_COLOURS = rf"(?:{dict(_MARKS)['colour']})*+"
_BLANKS = rf"(?:\s|{dict(_MARKS)['colour']})*+"
"""Between any two marks of a margin. It gives nothing back: else a line that lacks one of many marks takes for ever."""
_TIMES = frozenset(("kmsg", "unix_time", "time", "printk", "date", "boxed_time", "tag"))
_OF_ANY_LINE = frozenset(("blank", "colour", "quote", "comment"))
_QUOTE = re.compile(r"[>|\u2502]")
_CALLER = re.compile(r"\[\s*([TC]\d{1,10})\]")
_BOOT_TIME = re.compile(r"\[\s*(\d{1,10}\.\d{1,9})[^\[\]\n]{0,24}\]")
_COLOUR = re.compile(dict(_MARKS)["colour"])
_COLOURS_AROUND = re.compile(r"^(?:\s|\x1b\[[0-9;]{0,16}[A-Za-z])++|(?:\s|\x1b\[[0-9;]{0,16}[A-Za-z])++$")
_PIECE = re.compile(r"\d+|\s+|.", re.DOTALL)
_IS_TEXT = re.compile(r"\+0x[0-9a-f]|\[<|jiffies|backtrace|(?:[A-Za-z]{2,}[,.]?\s+){5}")
"""What is before the first words of a report, but no margin: the end of another report, or a sentence."""
_MOST_MARGIN = 256


_ANY_TO_TAG = re.compile(rf"[^\n]{{0,{_MOST_MARGIN}}}?{TAG}")


class Marks(NamedTuple):
    """The known marks at the start of a line: their names, and where they end."""

    names: frozenset[str]
    end: int


def marks_of(line: str) -> Marks:
    """Find the known marks at the start of a line."""
    names = set()
    at = 0
    while (found := _MARK.match(line, at)) and found.end() > at and found.lastgroup:
        names.add(found.lastgroup)
        at = found.end()
    return Marks(frozenset(names), at)


def strip(line: str) -> tuple[str, bool]:
    """Return the line without known marks and trailing blanks, and whether `kmemleak:` was among them."""
    if len(line) > MAX_LINE:
        return "", False
    marks = marks_of(line)
    return trimmed(line[marks.end :]), "tag" in marks.names


def same_margin_off(line: str, other: str) -> str:
    """The `other` line without the known marks that stand before `line`, if the same stand before it."""
    marks = marks_of(line)
    if not marks.names - {"blank"}:
        return other
    found = _pattern_of(line[: marks.end].rstrip()).match(other)
    return other[found.end() :].removeprefix(" ") if found and found[0].strip() else other


def after_tag(line: str) -> str | None:
    """What stands behind `kmemleak:`, whatever is before it; None if that is not on the line."""
    at = line.rfind(TAG, 0, MAX_LINE)
    return None if at < 0 else trimmed(line[at + len(TAG) : at + MAX_LINE])


def trimmed(line: str) -> str:
    """The line without blanks and colours around it."""
    line = line.strip()
    return _COLOURS_AROUND.sub("", line) if "\x1b[" in line else line


def without_colours(line: str) -> str:
    """The line without what tells a terminal its colours, which may stand in the middle of a mark."""
    return _COLOUR.sub("", line) if "\x1b[" in line else line


def caller_of(line: str) -> str | None:
    """The task or processor that printed it, `T123` or `C1`, if the kernel says so (CONFIG_PRINTK_CALLER)."""
    found = _CALLER.search(line, 0, _MOST_MARGIN)
    return found[1] if found else None


def time_of(line: str) -> float | None:
    """Seconds since boot when it was printed, if printk says so."""
    found = _BOOT_TIME.search(line, 0, _MOST_MARGIN)
    return float(found[1]) if found else None


class Belongs(Enum):
    """What a line is to a report, by what stands before it."""

    YES = auto()
    BARE = auto()
    """Nothing stands before it, though something does before the report's lines: perhaps the rest of the line above."""
    UNTAGGED = auto()
    """As the report's lines, but without `kmemleak:`."""
    NO = auto()


class OwnLine(NamedTuple):
    """A line of a report, perhaps: its `text` is without the margin, and `indent` counts the blanks before `body`.

    `raw` has also the quotes that `text` has not, for what may begin with one.
    """

    number: int
    text: str
    indent: int
    belongs: Belongs
    raw: str = ""

    @property
    def is_quoted(self) -> bool:
        """Whether quotes stand before it that do not stand before the report."""
        before = len(self.raw) - len(self.text)
        return before > 0 and self.raw.endswith(self.text) and bool(_QUOTE.search(self.raw, 0, before))

    @property
    def body(self) -> str:
        """The text without blanks and colours around it."""
        return trimmed(self.text)


class Margin:
    """What stood in front of the first line of a report, to be taken off the lines that follow it."""

    def __init__(self, before: str, following: Sequence[str] = ()) -> None:
        """Learn from what is `before` the report's first words, and from the lines that follow.

        What no known mark is made of may be of a program that marks lines, or be the words of a sentence. The lines
        that follow decide.
        """
        before = before[-_MOST_MARGIN:]
        marks = marks_of(before)
        self.tagged = TAG in before
        pattern = None
        if marks.end == len(before) or (following and not _IS_TEXT.search(before)):
            pattern = _pattern_of(before)
        if pattern is None or (marks.end < len(before) and not any(pattern.match(line) for line in following)):
            before = before[: marks.end]
            pattern = _ANY_TO_TAG if self.tagged else _pattern_of(before)
        self._pattern = pattern
        self._is_blank = not marks.names - {"blank", "colour"} and not before.strip()
        at = before.rfind(TAG)
        self._untagged = _pattern_of(before[:at]) if at > 0 else None

    def own(self, line: Line) -> OwnLine:
        """Take the margin off a line."""
        if len(line.text) > MAX_LINE:
            return OwnLine(line.number, "", 0, Belongs.NO)
        found = self._pattern.match(line.text)
        if found is not None:
            rest = marks_of(line.text[found.end() :])
            if not rest.names & _TIMES or (rest.names & _TIMES == {"tag"} and self.tagged):
                visible = 0 if self._is_blank else found.end()
                return self._owned(line, visible, found.end() + _end_of_quotes(line.text[found.end() :]), Belongs.YES)
            return self._owned(line, found.end(), found.end() + rest.end, Belongs.NO)
        marks = marks_of(line.text)
        if self._untagged is not None and "tag" not in marks.names:
            untagged = self._untagged.match(line.text)
            if untagged is not None and untagged[0].strip():
                return self._owned(line, untagged.end(), untagged.end(), Belongs.UNTAGGED)
        belongs = Belongs.NO if marks.names - _OF_ANY_LINE else Belongs.BARE
        return self._owned(line, marks.end, marks.end, belongs)

    def _owned(self, line: Line, margin: int, start: int, belongs: Belongs) -> OwnLine:
        """The line whose margin ends at `margin`, and whose body begins at `start`, but for blanks."""
        text = line.text
        before = text[: len(text) - len(text[start:].lstrip())].expandtabs()
        kept = text[start:] if text[margin:start].strip() else text[margin:]
        return OwnLine(line.number, kept, len(before) - len(before.rstrip()), belongs, text[margin:])


class OwnLines(Sequence[OwnLine]):
    """The lines of a text from the first line of a report on, without its margin: each when it is asked for."""

    def __init__(self, margin: Margin, first: OwnLine, lines: Sequence[Line]) -> None:
        """`first` is the first line as it is; the `lines` follow it."""
        self._margin = margin
        self._lines = lines
        self._found: dict[int, OwnLine] = {0: first}

    def __len__(self) -> int:
        return len(self._lines) + 1

    @overload
    def __getitem__(self, at: int) -> OwnLine: ...
    @overload
    def __getitem__(self, at: slice) -> list[OwnLine]: ...
    def __getitem__(self, at: int | slice) -> OwnLine | list[OwnLine]:
        """One line, or several."""
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        found = self._found.get(at)
        if found is None:
            if not 0 <= at < len(self):
                raise IndexError(at)
            found = self._found[at] = self._margin.own(self._lines[at - 1])
        return found


def _end_of_quotes(text: str) -> int:
    """Where quotes, colours and blanks at the start of a line end; 0 if there are only blanks."""
    at = 0
    while (found := _MARK.match(text, at)) and found.lastgroup in ("blank", "colour", "quote", "tag"):
        at = found.end()
    return at if text[:at].strip() else 0


def _pattern_of(before: str) -> re.Pattern[str]:
    """A pattern of what may stand before lines like the one that had this before it."""
    parts: list[str] = []
    end = _COLOURS
    at = 0
    while at < len(before):
        mark = _MARK.match(before, at)
        if mark and mark.end() > at and mark.lastgroup:
            parts.append(_PATTERNS[mark.lastgroup])
            end = _BLANKS if mark.lastgroup == "blank" else end if mark.lastgroup == "colour" else _COLOURS
            at = mark.end()
            continue
        piece = _PIECE.match(before, at)
        text = piece[0] if piece else before[at]
        parts.append(r"\d+" if text.isdigit() else "[:-]" if text in ":-" else re.escape(text))
        end = _COLOURS
        at += len(text)
    return re.compile(_BLANKS.join(["", *filter(None, parts)]) + end)
