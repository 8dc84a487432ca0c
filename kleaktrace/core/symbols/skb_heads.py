# SPDX-License-Identifier: GPL-2.0-or-later
"""Heads of skbs, which go round without an event: what NAPI frees goes into a list of the CPU's own, and from there to
whoever asks next, with the record of who had it first (net/core/skbuff.c, `napi_skb_cache_put`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kleaktrace.core.symbols.call_stacks import function_of

CACHE = "skbuff_head_cache"
MOST_PER_PROCESSOR = 64
"""NAPI_SKB_CACHE_SIZE."""

_OF_ALLOCATOR = re.compile(r"kmem_cache_alloc|bpf_trampoline_")
_MAKERS = re.compile(r"napi_skb_cache_get\w*|__alloc_skb|(__|napi_|slab_)?build_skb|skb_clone")


def is_made(names: Iterable[str]) -> bool:
    """Whether this was asked for by who makes heads, by the names of its functions; their data come another way."""
    return bool(
        _MAKERS.fullmatch(next((name for name in map(function_of, names) if not _OF_ALLOCATOR.match(name)), ""))
    )


def came_by_napi(cache: str, stack: Iterable[str]) -> bool:
    """Whether another may have had it last, by its cache and its frames as text."""
    return cache == CACHE and any(frame.startswith("napi_") for frame in stack)
