# SPDX-License-Identifier: GPL-2.0-or-later
"""An arm64 machine that signs return addresses, with the bcc, Python and numpy of Debian 13."""

from __future__ import annotations

import pytest
from kernel_checks import KernelChecks

pytestmark = pytest.mark.guest


class TestArm64(KernelChecks):
    """Its calls pass eight arguments in registers, and fexit takes no more: vmalloc has nine."""

    options = ("--arch", "arm64")
    sources = (("vmalloc", "kprobe:__vmalloc_node_range_noprof+"), ("slab-bulk-alloc", "fexit:kmem_cache_alloc_bulk"))
