# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rows of the table are shown, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.hash_index import Interner, one_of_each
from kleaktrace.core.arrays.types import U64, Index, Mask
from kleaktrace.core.events.records import Rows, comm_text
from kleaktrace.core.grouping.group_labels import GroupBy, label
from kleaktrace.core.ledger.tally import comm_words
from kleaktrace.core.live_table.live_table import TableLook
from kleaktrace.core.live_table.stack_verdicts import NO_VERDICTS, StackVerdicts


class SortBy(StrEnum):
    """What rows are sorted by: most first, the oldest first, names from a to z."""

    BYTES = "bytes"
    COUNT = "count"
    NET = "net/s"
    OLDEST = "oldest"
    VERDICT = "verdict"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What the reader wants to see of a look.

    reverse: the other way round. contains: only rows with this text in their frames, names, caches or comms, whatever
    the case.
    """

    sort: SortBy = SortBy.BYTES
    reverse: bool = False
    contains: str = ""


class Arranger:
    """Arranges one look after the other. What texts contain is remembered: they are many, and do not change."""

    def __init__(self) -> None:
        self._sought = ""
        self._groups: object = None
        self._found: list[bool] = []

    def arranged(self, look: TableLook, wanted: Arrangement, verdicts: StackVerdicts = NO_VERDICTS) -> Index:
        """The groups that are shown, by number, in their order. Of equals, the larger ones come first."""
        shown = look.counts > 0
        if wanted.contains:
            shown &= self._containing(look, wanted.contains.casefold())
        groups = np.flatnonzero(shown)
        groups = groups[np.argsort(-look.bytes[groups], kind="stable")]
        order = np.argsort(_sort_keys(look, groups, wanted.sort, verdicts), kind="stable")
        groups = groups[order]
        return groups[::-1] if wanted.reverse else groups

    def _containing(self, look: TableLook, sought: str) -> Mask:
        if (self._sought, self._groups) != (sought, look.groups):
            self._sought, self._groups, self._found = sought, look.groups, []
        labels = look.groups.labels[len(self._found) : look.counts.size]
        self._found += [any(sought in word.casefold() for word in words) for words in labels]
        found = np.array(self._found[: look.counts.size], np.bool_)
        by_row = _rows_with(sought, look.rows, comm_words(look.rows), lambda row: comm_text(row["comm"]))
        if look.asked.by is GroupBy.REQUESTER:
            by_row |= _rows_with(sought, look.rows, _cache_words(look.rows), lambda row: _cache(look, row))
        found[look.group_of_row[by_row]] = True
        return found


def _rows_with(sought: str, rows: Rows, words: tuple[U64, ...], name: Callable[[Any], str]) -> Mask:
    """Which rows have names that contain this; names are the same where the words are."""
    numbers = Interner(words=len(words)).intern(*words)
    found = [sought in name(row).casefold() for row in rows[one_of_each(numbers)]]
    return np.array(found, np.bool_).take(numbers)


def _cache_words(rows: Rows) -> tuple[U64, ...]:
    return rows["kind"].astype(np.uint64), rows["cache"], rows["bytes_alloc"]


def _cache(look: TableLook, row: Any) -> str:
    return look.names.cache(int(row["kind"]), int(row["cache"]), int(row["bytes_alloc"]))


def _sort_keys(look: TableLook, groups: Index, by: SortBy, verdicts: StackVerdicts) -> npt.NDArray[Any]:
    match by:
        case SortBy.BYTES:
            return -look.bytes[groups]
        case SortBy.COUNT:
            return -look.counts[groups]
        case SortBy.NET:
            return -np.nan_to_num(look.net_bytes[groups])
        case SortBy.OLDEST:
            return look.oldest_ns[groups]
        case SortBy.VERDICT:
            return -verdicts.ranks(look)[groups]
    names = [_name(look, group) for group in groups.tolist()]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], np.intp)


def _name(look: TableLook, group: int) -> str:
    if look.asked.by is GroupBy.STACK:
        return label(look.groups.heads[group].stack, GroupBy.REQUESTER).casefold()
    return look.groups.labels[group][0].casefold()
