# SPDX-License-Identifier: GPL-2.0-or-later
"""What bpf/pages.c needs to know of this machine: how many pages there may be, and whose are counted elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kleaktrace.core.symbols.page_callers import Caller, caller_codes
from kleaktrace.core.symbols.symbol_table import SymbolTable
from kleaktrace.edge.machine.meminfo import memory_in_use
from kleaktrace.edge.tracing.abi import MARKS, PLACE, PageRole

PAGE_ROLES = 1 << 14
"""Room in the map of that name: a few thousand are needed."""

_ROLES = {Caller.PASSES_ON: PageRole.PASSES_ON, Caller.COUNTED_ELSEWHERE: PageRole.COUNTED_ELSEWHERE}

# mm/vmstat.c, zoneinfo_show_print
_ZONE = re.compile(r"^ +spanned +(\d+)$.*?^  start_pfn: +(\d+)$", re.MULTILINE | re.DOTALL)


_MARKS_SHARE = 128
"""At most one part in so many of the machine's memory may be marks, a byte for each number."""


@dataclass(frozen=True, slots=True)
class PageSpace:
    """How many numbers the machine's pages need (see `page_numbers`), and how much memory it has, in bytes."""

    numbers: int
    memory: int

    @property
    def too_wide(self) -> bool:
        """Whether its memory lies so far apart that marks for all that lies between would take too much of it."""
        return self.numbers > self.memory // _MARKS_SHARE

    @property
    def map_sizes(self) -> dict[str, int]:
        """How many elements the maps need that depend on it."""
        return {"page_marks": 1 if self.too_wide else self.numbers // MARKS}


def page_numbers(zoneinfo: str) -> int:
    """A power of two, so large that no two of the machine's pages have the same number modulo it; at least `MARKS`.

    `zoneinfo` is the text of /proc/zoneinfo. Memory that is added later may lie farther away.
    """
    zones = [(int(start), int(start) + int(spanned)) for spanned, start in _ZONE.findall(zoneinfo)]
    first = min((start for start, _ in zones), default=0)
    last = max((end for _, end in zones), default=0)
    return max(1 << max(last - first - 1, 0).bit_length(), MARKS)


def machine_page_space(proc: Path = Path("/proc")) -> PageSpace:
    """This machine's."""
    return PageSpace(page_numbers((proc / "zoneinfo").read_text()), memory_in_use(proc / "meminfo")["MemTotal"])


def places_of_code(start: int, end: int) -> range:
    """The keys of `page_roles` for return addresses into code from `start` up to `end`.

    Where functions do not begin at a multiple of PLACE, one that calls another does not do so in its first bytes, so
    a place that two functions share belongs to the first.
    """
    return range((start + PLACE - 1) // PLACE, (end - 1) // PLACE + 1)


def page_roles(kernel: SymbolTable) -> dict[int, PageRole]:
    """What `page_roles` is to hold, `PAGE_ROLES` entries at most: by place of code, what a call from there means."""
    found = {
        place: _ROLES[code.caller] for code in caller_codes(kernel) for place in places_of_code(code.start, code.end)
    }
    return dict(islice(found.items(), PAGE_ROLES))
