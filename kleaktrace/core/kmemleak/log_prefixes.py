# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes what mails, logs and consoles put in front of a kmemleak line off again."""

from __future__ import annotations

import re

MAX_LINE = 4096
"""No line of a report comes near this length; longer ones are never looked at."""

_DATE = r"\d{4}[-/]\d\d[-/]\d\d[T ]"
_TIME = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_SYSLOG_DATE = r"(?:[A-Z][a-z]{2},?\s)?[A-Z][a-z]{2}\s[ \d]\d\s"
_PREFIX = re.compile(
    r"(?:"
    r"\s+"
    r"|\x1b\[[0-9;]{0,16}[A-Za-z]"  # colours
    r"|[>|]"  # quotes of mails
    r"|\d{1,4},\d{1,20},\d{1,20},[^;\n]{0,32};"  # /dev/kmsg
    r"|\d{1,9}(?:[:|\t]|-(?=\s))"  # line numbers
    r"|<\d{1,3}>"  # printk level
    r"|(?:kern|user|daemon|syslog)\s*:(?:emerg|alert|crit|err|warn|notice|info|debug)\s*:"  # dmesg -x
    rf"|(?:{_DATE}|{_SYSLOG_DATE})?{_TIME}(?:\s\d{{4}}(?=\s))?"
    r"|\[\s*[+<]?\s*\d{1,10}\.\d{1,9}[^\[\]\n]{0,24}\]"  # printk time, deltas of dmesg -d
    r"|\[[A-Z][a-z]{2}[ \d][^\[\]<>\n]{0,30}\d\d:\d\d[^\[\]<>\n]{0,12}\]"  # dmesg -T, dmesg -e
    rf"|\[(?:{_DATE})?{_TIME}\]"
    r"|\[\s*[TC]\d{1,10}\]"  # printk caller
    r"|(?:[\w.:-]{1,64}\s)?kernel(?:\[\d+\])?:"  # syslog, journal
    r"|(?P<tag>kmemleak:)"
    r")*+"
)
_COLOURS_AT_END = re.compile(r"(?:\s|\x1b\[[0-9;]{0,16}[A-Za-z])++$")
_DIGIT = re.compile(r"[\d ]")


def strip(line: str) -> tuple[str, bool]:
    """Return the line without known prefixes and trailing blanks, and whether `kmemleak:` was among them."""
    if len(line) > MAX_LINE:
        return "", False
    found = _PREFIX.match(line)
    if found is None or not found.end():
        return _trimmed(line), False
    return _trimmed(line[found.end() :]), found["tag"] is not None


def _trimmed(line: str) -> str:
    line = line.rstrip()
    return _COLOURS_AT_END.sub("", line) if "\x1b[" in line else line


class Margin:
    """What stood in front of a header, to be taken off the lines that follow it.

    Known prefixes are recognised by `strip`; an unknown one is taken off where a line has the same text,
    digits apart, in the same place.
    """

    def __init__(self, before: str, carriage_returns: bool = False) -> None:
        rest, self.tagged = strip(before)
        known = not rest
        self._blank = not before.strip()
        self._end = "\r" if carriage_returns else ""
        self._shape = "" if known or len(before) > 256 else _DIGIT.sub("0", before)

    def strip(self, line: str) -> tuple[str, bool]:
        """Return the line without its margin, and whether it may belong to the report at all."""
        body, tagged = strip(self._without_shape(line))
        return body, tagged or not self.tagged

    def strip_part(self, line: str) -> str:
        """Return a further line of a comm that holds newlines; its blanks count where nothing was put before it."""
        return self.strip_end(line) if self._blank else strip(self._without_shape(line))[0]

    def strip_end(self, line: str) -> str:
        """Return the line without the carriage return that all lines of this text have."""
        return line.removesuffix(self._end)

    def _without_shape(self, line: str) -> str:
        width = len(self._shape)
        return line[width:] if width and _DIGIT.sub("0", line[:width]) == self._shape else line
