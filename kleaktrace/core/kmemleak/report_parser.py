# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads kmemleak's report, of any kernel since 2.6.31, from the file itself or from a log, console, mail or web page.

What is printed is in mm/kmemleak.c: `print_unreferenced` (the report) and `dump_object_info` (the answer to
`dump=`, in the kernel log). Nothing is half-read in silence: what looks like a report and cannot be read
becomes a `Problem` with its line number.

Plain text as /sys/kernel/debug/kmemleak gives it takes a fast path (`clean_reports`); all between goes to
`rough_reports`. Both take time linear in the text.
"""

from __future__ import annotations

import re

from kleaktrace.core.arrays.gc_pause import kept_uncollected
from kleaktrace.core.kmemleak.clean_reports import CleanReports
from kleaktrace.core.kmemleak.kmemleak_text import (
    UNREAD,
    KmemleakText,
    LooseStack,
    Message,
    ObjectDump,
    PartOfText,
    Problem,
    Suspect,
)
from kleaktrace.core.kmemleak.text_lines import lines_of

__all__ = ["UNREAD", "KmemleakText", "LooseStack", "Message", "ObjectDump", "Problem", "Suspect", "parse"]

_TOKEN = "unreferenced object "
_ANYTHING = re.compile(
    r"ferenced|kmemleak|memory leak detector|backtrace|jiffies|Early log buffer|\+0x|write error|suspected memory"
)
_CHUNK = 1 << 22
"""So many characters of rough text are read at once, so that memory for their lines is bounded."""


@kept_uncollected()
def parse(text: str) -> KmemleakText:
    """Read all reports, object dumps and log messages of kmemleak in `text`; never raises."""
    return _Parser(text).parse()


class _Parser:
    """One pass over one text. `pos` is the start of the line `number`, and of what is not read yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.number = 1
        self.found = PartOfText()

    def parse(self) -> KmemleakText:
        text, clean, objects = self.text, CleanReports(), self.found.objects
        at = text.find(_TOKEN)
        while at >= 0:
            if at == 0 or text[at - 1] == "\n":
                if at - self.pos >= _CHUNK:
                    self._rough(at)
                line = self.number + text.count("\n", self.pos, at) if at > self.pos else self.number
                read = clean.read(text, at, line)
                if read is not None:
                    if at > self.pos:
                        self._rough(at)
                    suspect, end = read
                    objects.append(suspect)
                    self.number += text.count("\n", at, end)
                    self.pos = end
                    at = text.find(_TOKEN, end)
                    continue
            elif at - self.pos >= _CHUNK:
                self._rough(text.rfind("\n", self.pos, at) + 1 or self.pos)
            at = text.find(_TOKEN, at + 1)
        self._rough(len(text))
        found = self.found
        return KmemleakText(
            tuple(objects), tuple(found.problems), tuple(found.dumps), tuple(found.messages), tuple(found.stacks)
        )

    def _rough(self, end: int) -> None:
        """Read what stands before `end`, the start of a line."""
        if end <= self.pos:
            return
        if _ANYTHING.search(self.text, self.pos, end):
            # What the kernel itself says needs it seldom, and importing it takes a tenth of a command's start.
            from kleaktrace.core.kmemleak.rough_reports import read_rough

            part = self.text[self.pos : end]
            self.found.add(read_rough(list(lines_of(part, self.number)), end < len(self.text) or part.endswith("\n")))
        self.number += self.text.count("\n", self.pos, end)
        self.pos = end
