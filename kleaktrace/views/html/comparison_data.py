# SPDX-License-Identifier: GPL-2.0-or-later
"""The call stacks that have changed for the browser: all that `comparison_mode.js` shows, as packed text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kleaktrace.core.comparison.comparison import Change, Comparison
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.overview.frame_tree import FrameTree
from kleaktrace.views.html.packed import packed
from kleaktrace.views.html.stack_data import Strings, tree_columns
from kleaktrace.views.terminal.comparison import figures, heading

_LEAK, _MORE, _LESS, _KEPT = range(4)
_MOST = 2**53 - 1


def comparison_data(comparison: Comparison) -> str:
    """All changes, those that are kept on purpose last."""
    changes = [*comparison.changes, *comparison.kept]
    kept = [False] * len(comparison.changes) + [True] * len(comparison.kept)
    strings, tree = Strings(), FrameTree()
    leaves = [tree.add(reversed(change.frames)) for change in changes]
    told = [dict(figures(change, comparison.unit)) for change in changes]
    columns: dict[str, npt.ArrayLike] = {
        **tree_columns(tree, strings),
        "leaf": leaves,
        "requester_at": [change.requester_at for change in changes],
        "kind": [_kind(*one) for one in zip(changes, kept, strict=True)],
        **_signed("bytes", [change.bytes for change in changes]),
        **_signed("objects", [change.objects for change in changes]),
        **{f"{name}_words": strings.numbers(one[name] for one in told) for name in _FIGURES},
        "heading": strings.numbers(map(heading, changes)),
        "reason": strings.numbers(change.kept or change.held for change in changes),
        "key": strings.numbers(change.key for change in changes),
        "caches": strings.numbers(change.cache for change in changes),
        "contexts": strings.numbers(change.context for change in changes),
        "comms": strings.numbers(change.comm for change in changes),
    }
    header = {
        "seconds": round(comparison.after.seconds, 3),
        "measures": [
            {"name": "bytes", "column": "bytes", "unit": "bytes"},
            {"name": "objects", "column": "objects", "unit": "objects"},
        ],
        "strings": strings.texts,
    }
    return packed(header, columns)


_FIGURES = ("bytes", "objects", "rate", "before", "after")


def _kind(change: Change, kept: bool) -> int:
    if kept:
        return _KEPT
    if change.is_new_leak:
        return _LEAK
    return _LESS if change.bytes.estimate < 0 else _MORE


def _signed(name: str, differences: Sequence[Interval]) -> dict[str, npt.ArrayLike]:
    values = np.array([one.estimate for one in differences])
    return {name: np.minimum(np.rint(np.abs(values)), _MOST), f"{name}_less": values < 0}
