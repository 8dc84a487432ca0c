# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs that processes ran, and when: a task's name says `sh`, the arguments say which script."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from itertools import islice

MOST_BYTES = 256
"""Of a program's arguments (bpf/records.h, ARGUMENTS_LENGTH)."""

_CUT = "…"


class ExecutedPrograms:
    """The newest `most` programs, by process."""

    def __init__(self, most: int = 1 << 16) -> None:
        self._most = most
        self._programs: dict[int, list[tuple[int, bytes]]] = {}
        self._oldest: deque[tuple[int, tuple[int, bytes]]] = deque()
        self.added = 0
        """How many ever came."""

    def since(self, added: int) -> list[tuple[int, int, bytes]]:
        """What `add` was given after so many calls, as far as it is still here. Nothing may be added meanwhile."""
        count = min(self.added - added, len(self._oldest))
        newest = islice(self._oldest, len(self._oldest) - count, None)
        return [(tgid, *program) for tgid, program in newest]

    def add(self, tgid: int, time_ns: int, arguments: bytes) -> None:
        """From `time_ns` on (CLOCK_MONOTONIC) the process ran this.

        Each argument ends with a NUL; if the last one does not, it is cut.
        """
        if len(self._oldest) >= self._most:
            old, program = self._oldest.popleft()
            self._programs[old].remove(program)
            if not self._programs[old]:
                del self._programs[old]
        self.added += 1
        program = time_ns, arguments[:MOST_BYTES]
        insort(self._programs.setdefault(tgid, []), program)
        self._oldest.append((tgid, program))

    def arguments(self, tgid: int, time_ns: int) -> tuple[str, ...]:
        """The arguments, the program's name first, of what ran as `tgid` at that time; empty: not known.

        Numbers are used again: without having heard of a later program, an earlier one of this number is the answer.
        """
        programs = self._programs.get(tgid, [])
        place = bisect_right(programs, time_ns, key=lambda program: program[0])
        if not place:
            return ()
        *whole, rest = programs[place - 1][1].split(b"\0")
        cut = [rest.decode(errors="replace") + _CUT] if rest else []
        return (*(argument.decode(errors="replace") for argument in whole), *cut)

    def __len__(self) -> int:
        return len(self._oldest)
