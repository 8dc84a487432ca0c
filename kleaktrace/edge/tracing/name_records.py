"""Reads the records of the name ring (bpf/records.h): stacks and samples of them, slab caches, modules."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from kleaktrace.core.symbols.kernel_names import CacheName, is_reclaimable
from kleaktrace.core.symbols.symbol_table import ELF_SYMBOL, ModuleImage, TextRange
from kleaktrace.core.unwind.stack_paths import StackSample

PAGE = 4096
"""Bytes in the pages of module memory (MODULE_PAGE_LENGTH), whatever the machine's own pages are."""


class _Type(IntEnum):
    STACK = 1
    CACHE = 2
    MODULE_LOAD = 3
    MODULE_FREE = 4
    MODULE_PAGE = 5
    SAMPLE = 6
    PROGRAM = 7


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

_STACK = struct.Struct("=IIQQ")
_STACK_SIZE = _STACK.size + 128 * 8
_SAMPLE = struct.Struct("=QQQIIIIQ")
_CACHE = struct.Struct("=IIQII64s")
_MODULE = struct.Struct("=IIQQQQQQQQQQ64s")
_PAGE = struct.Struct("=IiQQ")
_PROGRAM = struct.Struct("=IIQI")


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def _stack(record: bytes) -> StackName:
    _, depth, key, _ = _STACK.unpack_from(record)
    return StackName(key, np.frombuffer(record, np.uint64, depth, _STACK.size).tolist())


def _sample(record: bytes) -> StackSample:
    _, depth, key, _ = _STACK.unpack_from(record)
    root, modules, recognised, event, words, rest, in_module, base = _SAMPLE.unpack_from(record, _STACK_SIZE)
    return StackSample(
        root=root,
        event=event,
        stack=key,
        frames=tuple(np.frombuffer(record, np.uint64, depth, _STACK.size).tolist()),
        words=np.frombuffer(record, np.uint64, words, _STACK_SIZE + _SAMPLE.size),
        rest=rest,
        in_module=bool(in_module),
        recognised=recognised,
        modules=modules,
        base=base,
    )


def _cache(record: bytes) -> CacheName:
    _, object_size, key, size, gfp_flags, name = _CACHE.unpack_from(record)
    return CacheName(key, _text(name), object_size, size, is_reclaimable(gfp_flags))


def _module_load(record: bytes) -> ModuleLoaded:
    _, symbols, key, identity, time_ns, text, text_size, init, init_size, table, strings, strings_end, name = (
        _MODULE.unpack_from(record)
    )
    image = ModuleImage(_text(name), key, time_ns, TextRange(text, text_size), TextRange(init, init_size))
    return ModuleLoaded(image, identity, (table, table + symbols * ELF_SYMBOL.itemsize), (strings, strings_end))


def _module_free(record: bytes) -> ModuleFreed:
    _, _, key, _, time_ns, *_, name = _MODULE.unpack_from(record)
    return ModuleFreed(_text(name), key, time_ns)


def _module_page(record: bytes) -> ModulePage:
    _, error, key, address = _PAGE.unpack_from(record)
    return ModulePage(key, address, b"" if error else record[_PAGE.size :])


def _program(record: bytes) -> ProgramName:
    _, tgid, time_ns, length = _PROGRAM.unpack_from(record)
    return ProgramName(tgid, time_ns, record[_PROGRAM.size : _PROGRAM.size + length])


_DECODERS: dict[int, Callable[[bytes], Name]] = {
    _Type.STACK: _stack,
    _Type.CACHE: _cache,
    _Type.MODULE_LOAD: _module_load,
    _Type.MODULE_FREE: _module_free,
    _Type.MODULE_PAGE: _module_page,
    _Type.SAMPLE: _sample,
    _Type.PROGRAM: _program,
}


def decode(record: bytes) -> Name:
    """One record. Raises ValueError for a type this version does not know: the C and Python sides differ."""
    kind = int.from_bytes(record[:4], "little")
    if kind not in _DECODERS:
        raise ValueError(f"name ring: unknown record type {kind}")
    return _DECODERS[kind](record)
