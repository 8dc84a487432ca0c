# SPDX-License-Identifier: GPL-2.0-or-later
"""Leaks that are known already, and are to be told of apart: a file names functions, one a line.

What it names is looked for in call stacks as text, as the kernel writes them: `drv_probe+0x22/0x100 [drv]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from kleaktrace.core.symbols.call_stacks import function_of, module_of

_LINE = re.compile(r"(?P<function>[\w.$*?]+)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?(?:\s+\[(?P<module>[\w*?-]+)\])?", re.ASCII)
_ANY = re.compile(r"[*?]+")
_SHOWN = 60


class KnownLeaksError(ValueError):
    """A line of such a file that names nothing. `line` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


@dataclass(frozen=True, slots=True)
class KnownLeak:
    """What passes through such a function, of such a module, is known.

    Both are shell patterns; module "": of any, or of the kernel itself.
    """

    function: str
    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.function} [{self.module}]" if self.module else self.function

    def holds(self, stack: Iterable[str]) -> bool:
        """Whether one of the frames is of that function. A frame without a name, 0xffffffffc0100022, is of none."""
        return any(
            _pattern(self.function).fullmatch(function_of(frame.partition(" [")[0]))
            and (not self.module or _pattern(self.module).fullmatch(module_of(frame)))
            for frame in stack
            if not frame.startswith("0x")
        )


@dataclass(frozen=True, slots=True)
class KnownLeaks:
    """The lines of a file. `name`: the file's, as it was given."""

    name: str = ""
    leaks: tuple[KnownLeak, ...] = ()

    def of(self, stack: Sequence[str]) -> KnownLeak | None:
        """The first line that holds for a call stack."""
        return next((known for known in self.leaks if known.holds(stack)), None)


NOTHING_KNOWN = KnownLeaks()


def parse_known_leaks(text: str, name: str = "") -> KnownLeaks:
    """Read `FUNCTION` or `FUNCTION [MODULE]`, a line each; `#` begins a comment. Raises `KnownLeaksError`."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return KnownLeaks(name, tuple(_known(number, line) for number, line in enumerate(lines, 1) if line))


def _known(number: int, line: str) -> KnownLeak:
    read = _LINE.fullmatch(line)
    if read is None:
        shown = line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
        raise KnownLeaksError(number, f"no function is named by {shown!a}")
    function, module = function_of(read["function"]), read["module"] or ""
    if _ANY.fullmatch(function) and (not module or _ANY.fullmatch(module)):
        raise KnownLeaksError(number, f"{line!r} would hide everything")
    return KnownLeak(function, module, number)


@lru_cache(1 << 10)
def _pattern(shell: str) -> re.Pattern[str]:
    return re.compile(translate(shell))
