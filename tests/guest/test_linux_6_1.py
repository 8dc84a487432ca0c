# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux 6.1: its fexit takes no more than six arguments, its verifier follows every branch."""

from __future__ import annotations

import pytest
from kernel_checks import KernelChecks

pytestmark = pytest.mark.guest


class TestLinux61(KernelChecks):
    """Per-CPU memory is none of kmemleak's business there (6.1 scans it, and reports none: mm/percpu.c)."""

    options = ("--kernel", "6.1")
    unseen_by_kmemleak = frozenset({"leak_percpu"})
    sources = (("vmalloc", "kprobe:__vmalloc_node_range+"), ("slab-bulk-free", "fentry:kmem_cache_free_bulk"))
