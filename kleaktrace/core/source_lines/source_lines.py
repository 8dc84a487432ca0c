# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of source code by frame."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_FRAME = re.compile(
    r"(?P<function>[^\s+]+)\+0x(?P<offset>[0-9a-f]{1,16})/0x(?P<size>[0-9a-f]{1,16})(?: \[(?P<module>[^\s\]]+)\])?"
)
_NO_FILE = "bpf"
"""What kallsyms calls the module of BPF programs and trampolines."""

KERNEL = ""
"""In place of a module's name: the kernel itself."""


class CodePlace(NamedTuple):
    """A return address as a frame names it, without the address: the same on any boot of one build.

    module: `KERNEL` for none. size: from the function's symbol to the next one.
    """

    module: str
    function: str
    offset: int
    size: int


class SourceLine(NamedTuple):
    """Where code is written. `line` is 0 if only the file is known. inlined: the compiler put it into its caller."""

    function: str
    file: str
    line: int
    inlined: bool = False

    @property
    def place(self) -> str:
        """As compilers write it: drivers/x/drv.c:123."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class SourceLines:
    """What is known of frames, which go by their text.

    missing: sentences, each for the kernel or a module: why nothing is known, and what to do.
    """

    known: Mapping[str, Sequence[SourceLine]] = field(default_factory=dict)
    missing: Sequence[str] = ()

    def of(self, frame: str) -> Sequence[SourceLine]:
        """The functions inlined there, innermost first, and last the one that the frame names; none: not known."""
        return self.known.get(frame, ())

    def __bool__(self) -> bool:
        return bool(self.known)


NO_SOURCE_LINES = SourceLines()
"""Where nobody has looked."""


def code_place(frame: str) -> CodePlace | None:
    """Read a frame's text, such as `drv_probe+0x22/0x100 [drv]`; None: no file can tell its source."""
    found = _FRAME.fullmatch(frame)
    if found is None or found["module"] == _NO_FILE:
        return None
    return CodePlace(found["module"] or KERNEL, found["function"], int(found["offset"], 16), int(found["size"], 16))
