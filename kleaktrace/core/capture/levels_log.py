# SPDX-License-Identifier: GPL-2.0-or-later
"""The history of what was outstanding when (`LevelHistory`) in a capture: each sample as what it changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kleaktrace.core.arrays.hash_index import grown
from kleaktrace.core.arrays.types import U64
from kleaktrace.core.capture import tables
from kleaktrace.core.capture.tables import Columns, TableLayout
from kleaktrace.core.growth.level_history import Level, LevelHistory

_MOST_KEPT, _MOST_BYTES = 1024, 1 << 30
"""More than a history keeps (`LevelHistory`)."""


@dataclass(frozen=True, slots=True)
class NewLevels:
    """Samples since the last look, and the times of all that are still kept."""

    samples: Sequence[Level]
    kept: tuple[int, ...]
    every_ns: int


class LevelsLog:
    """Tells what is new of one history."""

    def __init__(self) -> None:
        self._level: U64 = np.zeros(0, np.uint64)
        self._kept: tuple[int, ...] = ()
        self._newest_ns = -1

    def look(self, history: LevelHistory) -> NewLevels:
        """References to what came since the last look; none of it changes any more."""
        new = NewLevels(history.since(self._newest_ns), history.times_ns, history.every_ns)
        if new.samples:
            self._newest_ns = new.samples[-1].time_ns
        return new

    def batches(self, new: NewLevels) -> Iterator[tuple[TableLayout, Columns]]:
        """The rows for what is new."""
        stacks, levels, counts = [], [], []
        for sample in new.samples:
            changed = np.flatnonzero(sample.bytes != grown(self._level, sample.bytes.size, 1)[: sample.bytes.size])
            stacks.append(changed.astype(np.uint32))
            levels.append(sample.bytes[changed])
            counts.append(changed.size)
            self._level = sample.bytes
        yield (
            tables.LEVELS,
            {
                "time_ns": np.array([sample.time_ns for sample in new.samples], np.uint64),
                "every_ns": np.full(len(counts), new.every_ns, np.uint64),
                "stacks": np.array([sample.bytes.size for sample in new.samples], np.uint32),
                "changed": np.array(counts, np.uint32),
            },
        )
        yield (
            tables.LEVEL_CHANGES,
            {
                "stack": np.concatenate([np.zeros(0, np.uint32), *stacks]),
                "bytes": np.concatenate([np.zeros(0, np.uint64), *levels]),
            },
        )
        told = (*self._kept, *(sample.time_ns for sample in new.samples))
        self._kept = new.kept
        yield tables.LEVELS_KEPT, {"time_ns": np.array(new.kept if new.kept != told else (), np.uint64)}


class LevelsReader:
    """Puts a history together again."""

    def __init__(self) -> None:
        self._level: U64 = np.zeros(0, np.uint64)
        self._samples: dict[int, Level] = {}
        self._every_ns = LevelHistory().every_ns
        self._waiting: list[tuple[int, int, int]] = []

    def take(self, table: TableLayout, batch: Columns, known: int) -> None:
        """Take a batch of one of the tables of levels, in the order of `TABLES`; so many stacks are known by now."""
        match table:
            case tables.LEVELS:
                if batch["stacks"].max(initial=0) > known:
                    raise ValueError("a sample is of more call stacks than are told")
                self._every_ns = int(batch["every_ns"][-1])
                self._waiting = list(
                    zip(*(batch[name].tolist() for name in ("time_ns", "stacks", "changed")), strict=True)
                )
                if not batch["changed"].any():
                    self._take_samples(np.zeros(0, np.uint32), np.zeros(0, np.uint64))
            case tables.LEVEL_CHANGES:
                self._take_samples(batch["stack"], batch["bytes"])
            case tables.LEVELS_KEPT:
                kept = set(batch["time_ns"].tolist())
                self._samples = {time_ns: level for time_ns, level in self._samples.items() if time_ns in kept}

    def history(self, stacks: U64) -> LevelHistory:
        """The history; `stacks` are the keys of all stacks, by number."""
        samples = list(self._samples.values())
        return LevelHistory.restored(self._every_ns, samples, stacks[: samples[-1].bytes.size if samples else 0])

    def _take_samples(self, stacks: Any, levels: Any) -> None:
        at = 0
        for time_ns, size, changed in self._waiting:
            own, at = stacks[at : at + changed], at + changed
            if own.size != changed or own.max(initial=0) >= max(size, 1):
                raise ValueError("a sample of what is outstanding is not whole")
            level = grown(self._level, size, 1)[:size].copy()
            level[own] = levels[at - changed : at]
            self._samples[time_ns], self._level = Level(time_ns, level), level
            if len(self._samples) > _MOST_KEPT or len(self._samples) * level.nbytes > _MOST_BYTES:
                raise ValueError("it tells of more samples at a time than are ever kept")
        self._waiting = []
