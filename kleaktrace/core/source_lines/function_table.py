# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of a file by name, to find where a frame's call is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kleaktrace.core.source_lines.source_lines import CodePlace


class Function(NamedTuple):
    """A function in a file. size: as its symbol says, 0: it does not; room: up to the next symbol, if it is not the
    last one of its section."""

    address: int
    size: int
    room: int
    is_last: bool = False

    def has_return_to(self, offset: int) -> bool:
        """Whether a call in it can return so far behind its start; behind its end, if the call never returns."""
        return 0 < offset <= (self.size or self.room)

    def is_as_long_as(self, place: CodePlace) -> bool:
        """Whether the kernel, which counts from one symbol to the next, has it as long as the file."""
        return self.room == place.size or (self.is_last and self.room <= place.size)


def calls(place: CodePlace, functions: Mapping[str, list[Function]], same_build: bool) -> list[int]:
    """Where in the file the call may be that returns to this place, ascending; several functions may share a name.

    A return address lies behind the call, perhaps at the next line: the byte before it belongs to the call.
    same_build: whether the file is known to be the kernel's; if not, the function must at least be as long.
    """
    alike = [one for one in functions.get(place.function, []) if one.has_return_to(place.offset)]
    as_long = [one for one in alike if one.is_as_long_as(place)]
    return sorted({one.address + place.offset - 1 for one in as_long or (alike if same_build else [])})
