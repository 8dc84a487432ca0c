# SPDX-License-Identifier: GPL-2.0-or-later
"""Of which caches the frees were that nobody saw, and that show only by reuse of the memory."""

from __future__ import annotations

from collections import Counter

from kleaktrace.core.grouping.group_labels import cache_label
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.kernel_names import KernelNames


def implied_from(ledger: Ledger, names: KernelNames) -> list[tuple[str, int]]:
    """Caches by name with the number of their implied frees, the most first."""
    counts: Counter[str] = Counter()
    for origin, count in ledger.implied_frees_by_origin.items():
        counts[cache_label(names.cache(*origin))] += count
    return counts.most_common()
