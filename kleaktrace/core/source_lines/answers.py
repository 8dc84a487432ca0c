# SPDX-License-Identifier: GPL-2.0-or-later
"""What debug information answers, as lines of source code."""

from __future__ import annotations

from collections.abc import Sequence

from kleaktrace.core.source_lines.file_names import short_name
from kleaktrace.core.source_lines.source_lines import CodePlace, SourceLine

_LONGEST_NAME = 128

Named = tuple[str, str, int]
"""A function, the file as the compiler was told it, and the line, 0: not known."""


class AnswerReader:
    """Makes lines of answers, with files named below `root`. What is the same is kept once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files: dict[str, str] = {}
        self._lines: dict[tuple[str, str, int, bool], SourceLine] = {}
        self._chains: dict[tuple[str, tuple[Named, ...]], tuple[SourceLine, ...]] = {}

    def lines(self, place: CodePlace, answers: Sequence[tuple[Named, ...]]) -> tuple[SourceLine, ...]:
        """The source of a place. There are several answers if several functions have its name: they must agree."""
        if not answers or not answers[0] or any(answer != answers[0] for answer in answers[1:]):
            return ()
        key = place.function, answers[0]
        if key not in self._chains:
            *inlined, (_, file, line) = answers[0]
            within = [self._line(function, where, number, True) for function, where, number in inlined]
            self._chains[key] = (*within, self._line(place.function, file, line, False))
        return self._chains[key]

    def _line(self, function: str, file: str, line: int, inlined: bool) -> SourceLine:
        key = function, file, line, inlined
        if key not in self._lines:
            if file not in self._files:
                self._files[file] = short_name(file, self._root)
            self._lines[key] = SourceLine(function[:_LONGEST_NAME], self._files[file], line, inlined)
        return self._lines[key]
