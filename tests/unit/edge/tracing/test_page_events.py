# SPDX-License-Identifier: GPL-2.0-or-later
"""How many pages a machine may have, and where the code of those lies whose pages are counted elsewhere."""

from __future__ import annotations

from builders import kallsyms

from kleaktrace.core.symbols.symbol_table import parse_kallsyms
from kleaktrace.edge.tracing.abi import MARKS, PageRole
from kleaktrace.edge.tracing.page_events import page_numbers, page_roles, places_of_code

# mm/vmstat.c, cut
ZONEINFO = """\
Node 0, zone      DMA
  pages free     2816
        spanned  4095
        present  3998
  start_pfn:           1
Node 0, zone   Normal
  pages free     3741
        spanned  5505024
        present  5505024
  start_pfn:           1048576
Node 0, zone  Movable
  pages free     0
        spanned  0
        present  0
"""
TEXT = 0xFFFFFFFF81000000


def test_numbers_suffice_for_all_that_lies_between_the_first_page_and_the_last() -> None:
    assert page_numbers(ZONEINFO) == 1 << 23
    assert page_numbers("") == MARKS
    assert page_numbers(ZONEINFO.replace("5505024", "7340033")) == 1 << 23
    assert page_numbers(ZONEINFO.replace("5505024", "7340034")) == 1 << 24


def test_places_are_those_of_return_addresses() -> None:
    assert list(places_of_code(0x1000, 0x1020)) == [0x100, 0x101]
    assert list(places_of_code(0x1008, 0x1028)) == [0x101, 0x102]  # the first one's begin is another function's end


def test_roles_of_the_kernel_s_code() -> None:
    functions = {"__alloc_pages_noprof": TEXT, "do_something": TEXT + 32, "allocate_slab": TEXT + 64, "end": TEXT + 96}
    roles = page_roles(parse_kallsyms(kallsyms(functions)))
    at = TEXT // 16
    assert roles == {
        **dict.fromkeys((at, at + 1), PageRole.PASSES_ON),
        **dict.fromkeys((at + 4, at + 5), PageRole.COUNTED_ELSEWHERE),
    }
