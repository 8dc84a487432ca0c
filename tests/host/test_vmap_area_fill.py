# SPDX-License-Identifier: GPL-2.0-or-later
"""Free ranges of addresses are taken by array maps of the running kernel, and given back."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from kleaktrace.edge.kmemleak import vmap_area_fill
from kleaktrace.edge.kmemleak.vmap_area_fill import VMALLOCINFO, _array, filled_vmap_areas

pytestmark = pytest.mark.host

PAGE = mmap.PAGESIZE
LARGE = 300 * PAGE
"""Of such ranges the kernel keeps none for a CPU."""


def arrays() -> list[int]:
    """Bytes of each array map that this process has for a hole."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        info = Path("/proc/self/fdinfo", fd.name)
        fields = dict(line.split(":\t", 1) for line in info.read_text().splitlines()) if info.exists() else {}
        if fields.get("map_type") == "2" and fields["map_flags"] == "0x400":
            found.append(int(fields["value_size"]) * int(fields["max_entries"]))
    return found


def test_each_hole_is_taken_with_what_the_kernel_adds_and_given_back() -> None:
    holes = {1: 40 * PAGE, 2: 2 * PAGE, 3: 0, 4: 7 * PAGE}

    def free_before(address: int) -> int:
        return 0 if holes[address] - 2 * PAGE in arrays() else holes[address]

    with filled_vmap_areas(dict.fromkeys(holes, LARGE), free_before):
        # the second has no room for a map, and the third is none
        assert sorted(arrays()) == [5 * PAGE, 38 * PAGE]
    assert arrays() == []


def test_a_range_that_is_never_taken_is_given_up() -> None:
    with filled_vmap_areas({1: LARGE}, lambda _: 3 * PAGE):
        assert 0 < len(arrays()) <= 256
    assert arrays() == []


def test_a_kernel_that_does_not_tell_its_holes_is_left_alone() -> None:
    def refuse(address: int) -> int:
        raise OSError(address)

    with filled_vmap_areas({1: LARGE}, refuse):
        assert arrays() == []


def test_holes_are_filled_though_the_kernel_does_not_tell_what_it_gave_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmap_area_fill, "VMALLOCINFO", Path("/proc/no-vmallocinfo"))
    with filled_vmap_areas({1: LARGE}, lambda _: 0 if arrays() else 9 * PAGE):
        assert arrays() == [7 * PAGE]
    assert arrays() == []


def programs() -> int:
    """How many programs this process has loaded."""
    infos = (Path("/proc/self/fdinfo", fd.name) for fd in Path("/proc/self/fd").iterdir())
    return sum("prog_type:" in info.read_text() for info in infos if info.exists())


def test_ranges_that_the_kernel_keeps_for_each_cpu_are_taken_and_given_back() -> None:
    cpus = os.sched_getaffinity(0)
    with filled_vmap_areas({1: 2 * PAGE, 2: 5 * PAGE, 3: 5 * PAGE, 4: LARGE}, lambda _: 0):
        assert arrays() == [3 * PAGE] * 3 * len(cpus)
        assert programs() == 3 * len(cpus)
    assert (arrays(), programs()) == ([], 0)
    assert os.sched_getaffinity(0) == cpus


def unpurged() -> int:
    """Ranges that were freed and not given back."""
    return VMALLOCINFO.read_text().count("unpurged")


def test_what_was_freed_is_given_back() -> None:
    counted = []
    for _ in range(10):  # others free some, too, and at times many before we have counted
        deadline = time.monotonic() + 10
        while unpurged() < 50 and time.monotonic() < deadline:
            for size in range(1, 11):
                os.close(_array(size * PAGE))
            time.sleep(0.1)
        assert unpurged() >= 50
        with filled_vmap_areas({1: LARGE}, lambda _: 0):
            counted.append(unpurged())
        if counted[-1] < 25:
            return
    raise AssertionError(counted)
