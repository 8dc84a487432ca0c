# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in a capture: each stack, frame, place, cache, module and program once, when it came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.capture import tables
from kleaktrace.core.capture.tables import Columns, TableLayout
from kleaktrace.core.events.records import Context
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.executed_programs import ExecutedPrograms
from kleaktrace.core.symbols.kernel_names import CacheName, KernelNames
from kleaktrace.core.symbols.symbol_table import Frame, KnownSymbols, Symbols

Batches = Iterator[tuple[TableLayout, Columns]]

_BELOW_MACHINERY, _WITHIN_VMALLOC = 1, 2


@dataclass(frozen=True, slots=True)
class NewNames:
    """What came since the last look. caches, loads and unloads are all there are."""

    stacks: Sequence[tuple[int, Stack]]
    site_frames: Sequence[Frame]
    programs: Sequence[tuple[int, int, bytes]]
    caches: Mapping[int, CacheName]
    loads: Mapping[str, Sequence[int]]
    unloads: Mapping[str, Sequence[int]]


class NamesLog:
    """Tells what is new of the names of one session."""

    def __init__(self) -> None:
        self._stacks = self._site_frames = self._programs = 0
        self._frames: dict[Frame, int] = {}
        self._sites: set[int] = {0}
        self._caches: dict[int, CacheName] = {}
        self._modules: Counter[tuple[str, int, bool]] = Counter()

    def look(self, names: KernelNames) -> NewNames:
        """References to what came since the last look. Nothing may be added to the names meanwhile."""
        symbols = names.symbols
        modules = symbols.module_names
        new = NewNames(
            stacks=names.stacks.since(self._stacks),
            site_frames=names.sites.since(self._site_frames),
            programs=names.programs.since(self._programs),
            caches=dict(names.caches),
            loads={name: tuple(symbols.loads(name)) for name in modules},
            unloads={name: tuple(symbols.unloads(name)) for name in modules},
        )
        self._stacks += len(new.stacks)
        self._site_frames += len(new.site_frames)
        self._programs = names.programs.added
        return new

    def batches(self, new: NewNames, sites: U64, site_frame: Callable[[int], Frame]) -> Batches:
        """The rows for what is new. sites: places that free (by key) which may be; they are named by `site_frame`."""
        told = len(self._frames)
        unknown = [site for site in np.unique(sites).tolist() if site not in self._sites]
        self._sites.update(unknown)
        stack_frames = [self._number(frame) for _, stack in new.stacks for frame in stack.frames]
        keys = [self._number(frame) for frame in new.site_frames]
        site_frames = [self._number(site_frame(site)) for site in unknown]
        yield tables.FRAMES, _frame_columns(list(self._frames)[told:] if len(self._frames) > told else [])
        yield tables.STACKS, _stack_columns(new.stacks)
        yield tables.STACK_FRAMES, {"frame": np.array(stack_frames, np.uint32)}
        yield tables.SITE_KEYS, {"frame": np.array(keys, np.uint32)}
        yield tables.SITES, {"site": np.array(unknown, np.uint64), "frame": np.array(site_frames, np.uint32)}
        yield tables.CACHES, self._cache_columns(new.caches)
        yield tables.MODULES, self._module_columns(new)
        tgids, times, arguments = zip(*new.programs, strict=True) if new.programs else ((), (), ())
        yield (
            tables.PROGRAMS,
            {"tgid": np.array(tgids, np.uint32), "time_ns": np.array(times, np.uint64), "arguments": arguments},
        )

    def _number(self, frame: Frame) -> int:
        return self._frames.setdefault(frame, len(self._frames))

    def _cache_columns(self, caches: Mapping[int, CacheName]) -> Columns:
        new = [cache for key, cache in caches.items() if self._caches.get(key) != cache]
        self._caches.update((cache.key, cache) for cache in new)
        return {
            "cache": np.array([cache.key for cache in new], np.uint64),
            "name": [cache.name for cache in new],
            "object_size": np.array([cache.object_size for cache in new], np.uint32),
            "size": np.array([cache.size for cache in new], np.uint32),
            "reclaimable": np.array([cache.reclaimable for cache in new], np.uint8),
        }

    def _module_columns(self, new: NewNames) -> Columns:
        told = Counter(
            (name, time_ns, loaded)
            for times, loaded in ((new.loads, True), (new.unloads, False))
            for name, several in times.items()
            for time_ns in several
        )
        events = list((told - self._modules).elements())
        self._modules = told
        return {
            "name": [name for name, _, _ in events],
            "time_ns": np.array([time_ns for _, time_ns, _ in events], np.uint64),
            "loaded": np.array([loaded for _, _, loaded in events], np.uint8),
        }


def _frame_columns(frames: Sequence[Frame]) -> Columns:
    return {
        "address": np.array([frame.address for frame in frames], np.uint64),
        "name": [frame.name or "" for frame in frames],
        "named": np.array([frame.name is not None for frame in frames], np.uint8),
        "offset": np.array([frame.offset for frame in frames], np.uint64),
        "size": np.array([frame.size for frame in frames], np.uint64),
        "module": [frame.module or "" for frame in frames],
    }


def _stack_columns(stacks: Sequence[tuple[int, Stack]]) -> Columns:
    flags = [_BELOW_MACHINERY * s.below_machinery | _WITHIN_VMALLOC * s.within_vmalloc for _, s in stacks]
    return {
        "stack": np.array([key for key, _ in stacks], np.uint64),
        "context": np.array([stack.context for _, stack in stacks], np.uint8),
        "flags": np.array(flags, np.uint8),
        "depth": np.array([len(stack.frames) for _, stack in stacks], np.uint32),
    }


class NamesReader:
    """Puts the names together again. Raises ValueError where a row names what was not told."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._waiting: list[tuple[int, Context, int, int]] = []
        self._stacks: dict[int, Stack] = {}
        self._sites: dict[int, Frame] = {}
        self._site_frames: list[Frame] = []
        self._functions: dict[int, str] = {}
        self._caches: dict[int, CacheName] = {}
        self._modules: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})  # unloads, loads
        self._programs = ExecutedPrograms()

    def take(self, table: TableLayout, batch: Columns) -> None:
        """Take a batch of one of the tables of names, in the order of `TABLES`."""
        columns = (column.tolist() if isinstance(column, np.ndarray) else column for column in batch.values())
        rows = zip(*columns, strict=True)
        match table:
            case tables.FRAMES:
                self._frames += [
                    Frame(address, name if named else None, offset, size, module or None)
                    for address, name, named, offset, size, module in rows
                ]
            case tables.STACKS:
                self._waiting = [(key, Context(context), flags, depth) for key, context, flags, depth in rows]
                if not batch["depth"].any():
                    self._take_stacks([])
            case tables.STACK_FRAMES:
                self._take_stacks([self._frame(number) for (number,) in rows])
            case tables.SITES:
                self._sites.update((site, self._frame(number)) for site, number in rows)
            case tables.SITE_KEYS:
                self._site_frames += [self._frame(number) for (number,) in rows]
            case tables.FUNCTIONS:
                self._functions.update(rows)
            case tables.CACHES:
                self._caches.update(
                    (key, CacheName(key, name, object_size, size, bool(reclaimable)))
                    for key, name, object_size, size, reclaimable in rows
                )
            case tables.MODULES:
                for name, time_ns, loaded in rows:
                    self._modules[bool(loaded)].setdefault(name, []).append(time_ns)
            case tables.PROGRAMS:
                for program in rows:
                    self._programs.add(*program)

    def names(self) -> KernelNames:
        """All names that were told."""
        unloads, loads = self._modules
        symbols = Symbols.restored(KnownSymbols(self._sites, self._functions, loads, unloads))
        return KernelNames.restored(symbols, self._stacks, self._site_frames, self._caches, self._programs)

    def _frame(self, number: int) -> Frame:
        if number >= len(self._frames):
            raise ValueError(f"frame {number} is not told")
        return self._frames[number]

    def _take_stacks(self, frames: Sequence[Frame]) -> None:
        at = 0
        for key, context, flags, depth in self._waiting:
            own, at = tuple(frames[at : at + depth]), at + depth
            self._stacks[key] = Stack(own, context, bool(flags & _BELOW_MACHINERY), bool(flags & _WITHIN_VMALLOC))
        if at != len(frames):
            raise ValueError(f"{len(frames)} frames are told of stacks that have {at}")
        self._waiting = []
