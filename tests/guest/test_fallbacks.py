# SPDX-License-Identifier: GPL-2.0-or-later
"""Where fentry is refused, kprobes serve, and where they are too, the events of the vmalloc address space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_tool import Guest, result_of

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def seen(guest: Guest, lab_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return result_of(guest, "fallback_scenario.py", tmp_path_factory.mktemp("fallbacks"), lab_module)


def test_kprobes_in_place_of_fentry(seen: Any) -> None:
    kprobe = seen["kprobe"]
    assert kprobe["coverage"]["vmalloc"].startswith("kprobe:__vmalloc_node_range")
    assert kprobe["coverage"]["vfree"].startswith("kprobe:vfree")
    assert kprobe["coverage"]["slab-bulk-free"] == "kprobe:kmem_cache_free_bulk"
    assert kprobe["coverage"]["slab-bulk-alloc"].startswith("kprobe:kmem_cache_alloc_bulk")
    assert kprobe["found"] == kprobe["leaked"] == 4
    assert kprobe["bytes_req"] == [5120]
    assert kprobe["functions"] == ["lab_leak_vmalloc_5k"]
    assert kprobe["module_freed"] >= 1
    assert kprobe["loss"] == []


def test_events_in_place_of_kprobes(seen: Any) -> None:
    events = seen["events"]
    assert events["coverage"]["vmalloc"] == "raw_tracepoint:alloc_vmap_area"
    assert events["coverage"]["vfree"] == "raw_tracepoint:free_vmap_area_noflush"
    assert events["coverage"]["slab-bulk-free"] is None
    assert events["found"] == events["leaked"] == 4
    assert events["bytes_req"] == [12288]  # two pages and the guard page
    assert events["functions"] == ["lab_leak_vmalloc_5k"]
    assert events["module_freed"] >= 1
