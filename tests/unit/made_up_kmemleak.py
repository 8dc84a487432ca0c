# SPDX-License-Identifier: GPL-2.0-or-later
"""A kmemleak that the test makes up, as `KmemleakClient` shows one."""

from __future__ import annotations

from collections.abc import Callable

from kleaktrace.core.kmemleak.kmemleak_text import ObjectDump
from kleaktrace.core.kmemleak.report_parser import KmemleakText, Suspect
from kleaktrace.edge.kmemleak.client import DumpAnswer
from kleaktrace.errors import KleaktraceError


def _dump(address: int, jiffies: int) -> ObjectDump:
    return ObjectDump(address, 128, "insmod", 42, jiffies, min_count=1, count=1, flags=1, checksum=0, frames=())


class MadeUpKmemleak:
    """Lists `listed`. `tracked`: where it has objects, and since when (None: its log is not read). `asked`: where it
    was asked. `fails`: what a scan raises."""

    def __init__(self, *listed: Suspect) -> None:
        self.listed = listed
        self.tracked: dict[int, int | None] = {}
        self.asked: list[int] = []
        self.scans = 0
        self.fails: KleaktraceError | None = None
        self.at_scan: Callable[[], None] = lambda: None

    def require_on(self) -> None:
        """It is."""

    def needed_scans(self) -> int:
        return 2

    def scan(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.scans += 1
        self.at_scan()

    def read(self) -> KmemleakText:
        return KmemleakText(tuple(self.listed), ())

    def dump(self, address: int) -> DumpAnswer:
        self.asked.append(address)
        if address not in self.tracked:
            return DumpAnswer(False, None)
        jiffies = self.tracked[address]
        return DumpAnswer(True, None if jiffies is None else _dump(address, jiffies))
