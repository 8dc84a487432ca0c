# SPDX-License-Identifier: GPL-2.0-or-later
"""Free pages of the running kernel are passed through, and given back."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleaktrace.edge.kmemleak.freelist_scrub import PAGETYPEINFO, scrub_freelists
from kleaktrace.edge.machine.meminfo import memory_in_use

pytestmark = pytest.mark.host


def test_free_pages_are_passed_through_and_given_back() -> None:
    if not PAGETYPEINFO.exists():
        pytest.skip("this kernel does not tell its free pages by type (CONFIG_PROC_PAGE_MONITOR)")
    mounts = Path("/proc/self/mountinfo").read_text()
    before = memory_in_use()["Unevictable"]
    passed = scrub_freelists()
    assert passed > 0
    assert memory_in_use()["Unevictable"] < before + passed // 2
    assert Path("/proc/self/mountinfo").read_text() == mounts
