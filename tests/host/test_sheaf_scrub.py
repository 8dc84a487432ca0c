# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel gives its sheaves back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from host_tools import kleaktrace, read_json

from kleaktrace.edge.kmemleak.sheaf_scrub import CACHES, scrub_sheaves

pytestmark = pytest.mark.host


def in_use() -> tuple[set[int], list[str]]:
    """The CPUs that we may use, and our file descriptors."""
    return os.sched_getaffinity(0), os.listdir("/proc/self/fd")  # noqa: PTH208


def test_caches_that_have_sheaves_give_them_back() -> None:
    told = {path.resolve() for path in CACHES.glob("*/sheaf_capacity")}
    with_sheaves = [path for path in told if int(path.read_text())]
    if not with_sheaves:
        pytest.skip("this kernel's slab caches have no sheaves (before v6.18)")
    before = in_use()
    assert scrub_sheaves() == len(with_sheaves)
    assert in_use() == before


def taken(tmp_path: Path, by: str) -> set[str]:
    """Groups of what is allocated again and again while objects are taken of all caches of which that can be done."""
    program, file = Path(__file__).with_name("takes_objects.py"), tmp_path / f"{by}.json"
    with subprocess.Popen(
        [sys.executable, str(program), "kt-takes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert len(process.stdout.readline().split()) > 20
        done = kleaktrace(
            *(tmp_path, "rates", "--json", file, "--by", by, "--comm", "kt-takes", "--duration", 3, "--top", 1000)
        )
    assert done.status == 0, done.stderr
    return {group["group"] for group in read_json(file)["rates"] if group["allocations_per_s"] > 1}


def test_objects_are_taken_of_every_size_and_of_skbs(tmp_path: Path) -> None:
    """Which of the caches of one size a kmalloc is from, its event does not tell."""
    seen = taken(tmp_path, "cache")
    assert {"skbuff_head_cache", "skbuff_small_head"} <= seen
    assert {f"kmalloc-{size}" for size in ("8", "16", "32", "64", "96", "128", "192", "256", "512")} <= seen
    assert {f"kmalloc-{size}k" for size in (1, 2, 4, 8)} <= seen


def test_they_are_asked_for_in_each_of_the_ways(tmp_path: Path) -> None:
    asked = " ".join(taken(tmp_path, "requester"))
    for way in ("setgroups", "add_key", "map_lookup_elem"):
        assert way in asked
