# SPDX-License-Identifier: GPL-2.0-or-later
"""What filters name and the kernel does not have at the moment: /proc/modules, /proc/slabinfo (mm/slab_common.c)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kleaktrace.edge.tracing.filters import Filters

PROC = Path("/proc")


def absent_names(filters: Filters) -> Iterator[str]:
    """For each filter that nothing passes as things are: what is not there, and what that means, in a sentence."""
    if filters.module is not None:
        loaded = _first_words("modules")
        if loaded is None:
            yield f"this kernel has no loadable modules: nothing passes through {filters.module}"
        elif filters.module not in loaded:
            yield f"the module {filters.module} is not loaded: there is nothing to show until it is"
    if filters.cache is not None:
        caches = _first_words("slabinfo")
        if caches is not None and filters.cache not in caches:
            yield (
                f"no slab cache is called {filters.cache} now, as /proc/slabinfo has it: caches that are alike may be "
                "one, under the first one's name"
            )


def _first_words(name: str) -> set[str] | None:
    """Of each line of a file in /proc; None: it can't be read."""
    try:
        text = (PROC / name).read_text()
    except OSError:
        return None
    return {line.split(maxsplit=1)[0] for line in text.splitlines() if line.strip()}
