# SPDX-License-Identifier: GPL-2.0-or-later
"""A kmemleak that the test makes up, as `KmemleakClient` shows one."""

from __future__ import annotations

from collections.abc import Callable

from kleaktrace.core.kmemleak.report_parser import KmemleakText, Suspect
from kleaktrace.errors import KleaktraceError


class MadeUpKmemleak:
    """Lists `listed`. `tracked`: where it has objects; `asked`: where it was asked. `fails`: what a scan raises."""

    def __init__(self, *listed: Suspect) -> None:
        self.listed = listed
        self.tracked: set[int] = set()
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

    def is_tracked(self, address: int) -> bool:
        self.asked.append(address)
        return address in self.tracked
