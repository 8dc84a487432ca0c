# SPDX-License-Identifier: GPL-2.0-or-later
"""Which headings of call stacks would name a function that only allocates, by a second opinion."""

from __future__ import annotations

import re

from kleaktrace.core.grouping.group_labels import GroupBy, label
from kleaktrace.core.recording import Recording

ALLOCATOR = re.compile(
    r"_*((devm_|drmm_)?k?v?([mzc]|re)alloc\w*|(devm_)?k(mem|str)n?dup\w*|kmem_cache_z?alloc\w*|\w*alloc_inode|_*alloc_(skb|buffer_head)"
    r"|(mas|xas|xa|radix_tree|idr|ida)_\w+|(devm_|pcim_)?ioremap\w*|vmap\w*|get_vm_area\w*|\w+_alloc_percpu|(dev_)?alloc_\w*skb|alloc_(empty_)?file\w*|getname\w*|d_alloc\w*|security_\w+_alloc|mempool_\w+)"
    r"(\.\w+)*( \[\w+\])?"
)
"""Not the table that headings are made by (`core.symbols.requesters`), but what such functions are called."""


def headed_by_allocators(recording: Recording) -> list[str]:
    """Headings of all its call stacks that do, each once."""
    stacks = recording.names.stacks
    keys = recording.ledger.snapshot().stacks.tolist()
    headings = {label(stacks.get(key), GroupBy.REQUESTER) for key in keys}
    assert len(headings) > 20, "there was too little to see"
    return sorted(heading for heading in headings if ALLOCATOR.fullmatch(heading))
