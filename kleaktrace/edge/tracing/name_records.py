# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the records of the name ring (bpf/records.h): stacks and samples of them, slab caches, modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.symbols.kernel_names import CacheName, is_reclaimable
from kleaktrace.core.symbols.symbol_table import ELF_SYMBOL, ModuleImage, TextRange
from kleaktrace.core.unwind.stack_paths import StackSample
from kleaktrace.edge.tracing.abi import (
    CACHE_NAME,
    MODULE_NAME,
    MODULE_PAGE,
    PROGRAM_NAME,
    STACK_NAME,
    STACK_SAMPLE,
    NameType,
)


@dataclass(frozen=True, slots=True)
class StackName:
    """The return addresses behind a stack key, innermost first."""

    key: int
    addresses: list[int]


@dataclass(frozen=True, slots=True)
class ModuleFreed:
    """A module is about to go."""

    name: str
    key: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class ModuleLoaded:
    """A module that is about to run for the first time, and where its symbols are in memory: [start, end).

    identity: the same whenever it is loaded at this place with these symbols.
    """

    image: ModuleImage
    identity: int
    symbol_table: tuple[int, int]
    string_table: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ModulePage:
    """A page of a module's memory, as it was when it was loaded."""

    key: int
    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ProgramName:
    """A process has begun to run a program. See `ExecutedPrograms.add`."""

    tgid: int
    time_ns: int
    arguments: bytes


Name = StackName | StackSample | CacheName | ModuleLoaded | ModuleFreed | ModulePage | ProgramName


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def _stack(record: bytes) -> StackName:
    _, depth, key, _ = STACK_NAME.unpack_from(record)
    return StackName(key, np.frombuffer(record, np.uint64, depth, STACK_NAME.size).tolist())


def _sample(record: bytes) -> StackSample:
    _, depth, key, _ = STACK_NAME.unpack_from(record)
    _, root, modules, recognised, event, words, rest, in_module, cut, base = STACK_SAMPLE.unpack_from(record)
    return StackSample(
        root=root,
        event=event,
        stack=key,
        frames=tuple(np.frombuffer(record, np.uint64, depth, STACK_NAME.size).tolist()),
        words=np.frombuffer(record, np.uint64, words, STACK_SAMPLE.size),
        rest=rest,
        in_module=bool(in_module),
        cut=bool(cut),
        recognised=recognised,
        modules=modules,
        base=base,
    )


def _cache(record: bytes) -> CacheName:
    _, object_size, key, size, gfp_flags, name = CACHE_NAME.unpack_from(record)
    return CacheName(key, _text(name), object_size, size, is_reclaimable(gfp_flags))


def _module_load(record: bytes) -> ModuleLoaded:
    _, symbols, key, identity, time_ns, text, text_size, init, init_size, table, strings, strings_end, name = (
        MODULE_NAME.unpack_from(record)
    )
    image = ModuleImage(_text(name), key, time_ns, TextRange(text, text_size), TextRange(init, init_size))
    return ModuleLoaded(image, identity, (table, table + symbols * ELF_SYMBOL.itemsize), (strings, strings_end))


def _module_free(record: bytes) -> ModuleFreed:
    _, _, key, _, time_ns, *_, name = MODULE_NAME.unpack_from(record)
    return ModuleFreed(_text(name), key, time_ns)


def _module_page(record: bytes) -> ModulePage:
    _, error, key, address = MODULE_PAGE.unpack_from(record)
    return ModulePage(key, address, b"" if error else record[MODULE_PAGE.size :])


def _program(record: bytes) -> ProgramName:
    _, tgid, time_ns, length = PROGRAM_NAME.unpack_from(record)
    return ProgramName(tgid, time_ns, record[PROGRAM_NAME.size : PROGRAM_NAME.size + length])


_DECODERS: dict[int, Callable[[bytes], Name]] = {
    NameType.STACK_NAME: _stack,
    NameType.CACHE_NAME: _cache,
    NameType.MODULE_LOAD: _module_load,
    NameType.MODULE_FREE: _module_free,
    NameType.MODULE_PAGE: _module_page,
    NameType.STACK_SAMPLE: _sample,
    NameType.PROGRAM_NAME: _program,
}


def decode(record: bytes) -> Name:
    """One record. Raises ValueError for a type this version does not know: the C and Python sides differ."""
    kind = int.from_bytes(record[:4], "little")
    if kind not in _DECODERS:
        raise ValueError(f"name ring: unknown record type {kind}")
    return _DECODERS[kind](record)
