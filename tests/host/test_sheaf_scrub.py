# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel gives its sheaves back."""

from __future__ import annotations

import os

import pytest

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
