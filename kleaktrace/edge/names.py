"""Reads the records of the name ring (bpf/records.h): stacks, slab caches, modules."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from kleaktrace.core.kernel_names import CacheName
from kleaktrace.core.symbols import ModuleImage, TextRange


class _Type(IntEnum):
    STACK = 1
    CACHE = 2
    MODULE_LOAD = 3
    MODULE_FREE = 4
    MODULE_CHUNK = 5


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
class ModuleChunk:
    """A piece of a module's symbol table (`part` 0) or string table (1)."""

    key: int
    part: int
    offset: int
    data: bytes


Name = StackName | CacheName | ModuleImage | ModuleFreed | ModuleChunk

_STACK = struct.Struct("=IIQQ")
_CACHE = struct.Struct("=IIQII64s")
_MODULE = struct.Struct("=IIQQQQQQQ64s")
_CHUNK = struct.Struct("=IIQII")


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")


def decode(record: bytes) -> Name:
    """One record. Raises ValueError for a type this version does not know: the C and Python sides differ."""
    kind = int.from_bytes(record[:4], "little")
    if kind == _Type.STACK:
        _, depth, key, _ = _STACK.unpack_from(record)
        return StackName(key, np.frombuffer(record, np.uint64, depth, _STACK.size).tolist())
    if kind == _Type.CACHE:
        _, object_size, key, size, _, name = _CACHE.unpack_from(record)
        return CacheName(key, _text(name), object_size, size)
    if kind in (_Type.MODULE_LOAD, _Type.MODULE_FREE):
        _, _, key, time_ns, text, text_size, init, init_size, _, name = _MODULE.unpack_from(record)
        if kind == _Type.MODULE_FREE:
            return ModuleFreed(_text(name), key, time_ns)
        return ModuleImage(_text(name), key, time_ns, TextRange(text, text_size), TextRange(init, init_size))
    if kind == _Type.MODULE_CHUNK:
        _, part, key, offset, length = _CHUNK.unpack_from(record)
        return ModuleChunk(key, part, offset, record[_CHUNK.size : _CHUNK.size + length])
    raise ValueError(f"name ring: unknown record type {kind}")
