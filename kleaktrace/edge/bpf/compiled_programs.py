# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiled BPF programs, as they can be kept: not yet bound to maps, nor to what differs from run to run.

In the eight bytes of an instruction (Documentation/bpf/standardization/instruction-set.rst) the source register says
what the constant of a 64-bit load is. Until programs are linked, a map goes by its place in `maps`, a value by its
place in `VALUES`, and a map that the C sources hand to a helper themselves by its place in `NAMED_MAPS`. The kernel
knows no such source registers as `_VALUE` and `_NAMED_MAP`: it refuses a program that was forgotten. A call of one of
the kernel's own functions goes by its place in `FUNCTIONS`, as one of a helper that there is not.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

VALUES = (
    *("SELF", "PID_NAMESPACE", "PID_NAMESPACE_DEVICE", "FILTER_PID"),
    *("PER_CPU_OFFSET", "PREEMPT_COUNT_PER_CPU", "BULK_FREE", "SHEAF_FREE", "RCU_FREE", "VFREE", "VFREE_ATOMIC"),
    *("FREE_AREAS", "WORD_TYPE", "KERNEL_TEXT", "ENTRY_TEXT", "PAGE_NUMBERS"),
)
"""What the C sources know only when the programs are loaded: processes, addresses, types of BTF, all of 64 bits."""

FUNCTIONS = ("RDONLY_CAST",)
"""Functions of the kernel that the C sources call (Documentation/bpf/kfuncs.rst), which have their numbers from BTF."""

NAMED_MAPS = {"EVENT_RING": "events", "NAME_RING": "names"}
"""Maps that the C sources hand to helpers of which bcc knows nothing: the macro, and the map's own name."""

FORMAT = b"kleaktrace BPF programs 6"
"""To be counted up when this module, or how programs are compiled, changes."""

_MAP, _NAMED_MAP, _VALUE = 1, 14, 15  # BPF_PSEUDO_MAP_FD, and two of our own
CALL = 0x85  # BPF_JMP | BPF_CALL
KERNEL_FUNCTION = 2  # BPF_PSEUDO_KFUNC_CALL
_MAP_NAMES = tuple(NAMED_MAPS.values())
_FIRST_FUNCTION = 0x7F000000  # far above the helpers, BPF_FUNC_*
_LOAD_64 = 0x18  # BPF_LD | BPF_DW | BPF_IMM: two instructions, the second with the upper half of the constant
_INSTRUCTION = np.dtype([("code", "u1"), ("registers", "u1"), ("offset", "i2"), ("constant", "u4")])
_SOURCE_SHIFT = 4 if sys.byteorder == "little" else 0
_DESTINATION_SHIFT = 4 - _SOURCE_SHIFT

_Instructions = npt.NDArray[np.void]


def instruction(code: int, destination: int = 0, source: int = 0, constant: int = 0) -> bytes:
    """One instruction, without an offset."""
    registers = destination << _DESTINATION_SHIFT | source << _SOURCE_SHIFT
    return np.array([(code, registers, 0, constant)], _INSTRUCTION).tobytes()


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map to make. `type` and `flags` are the kernel's (include/uapi/linux/bpf.h), sizes are bytes."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class Programs:
    """Instructions by function, and the maps that they refer to."""

    license: str
    maps: tuple[MapSpec, ...]
    functions: Mapping[str, bytes]

    def linked(self, function: str, map_fds: Sequence[int], values: Mapping[str, int]) -> bytes:
        """A function's instructions for the kernel. `map_fds` are in the order of `maps`.

        Raises `KeyError` for a value that it needs and that is not given.
        """
        code, sources = _code(self.functions[function])
        for at in np.flatnonzero(sources == _MAP):
            code["constant"][at] = map_fds[code["constant"][at]]
        by_name = {spec.name: fd for spec, fd in zip(self.maps, map_fds, strict=True)}
        for at in np.flatnonzero(sources == _NAMED_MAP):
            _set_source(code, at, _MAP)
            code["constant"][at] = by_name[_MAP_NAMES[code["constant"][at]]]
        for at in np.flatnonzero(sources == _VALUE):
            value = values[VALUES[code["constant"][at]]]
            _set_source(code, at, 0)
            code["constant"][at], code["constant"][at + 1] = value & 0xFFFFFFFF, value >> 32
        for at in _kernel_calls(code):
            code["registers"][at] = KERNEL_FUNCTION << _SOURCE_SHIFT
            code["constant"][at] = values[FUNCTIONS[code["constant"][at] - _FIRST_FUNCTION]]
        return code.tobytes()


def value_macros(names: Mapping[str, int]) -> dict[str, str]:
    """The macros by which the C sources get maps, these values, and these functions' numbers when they are linked."""
    maps = {macro: f"bpf_pseudo_fd({_NAMED_MAP},{place})" for place, macro in enumerate(NAMED_MAPS)}
    return maps | {
        name: str(_FIRST_FUNCTION + FUNCTIONS.index(name))
        if name in FUNCTIONS
        else f"bpf_pseudo_fd({_VALUE},{VALUES.index(name)})"  # bcc's helpers.h
        for name in names
    }


def _set_source(code: _Instructions, at: np.intp, source: int) -> None:
    code["registers"][at] = code["registers"][at] & (0xFF ^ 0xF << _SOURCE_SHIFT) | source << _SOURCE_SHIFT


def unbound(instructions: bytes, map_fds: Sequence[int]) -> bytes:
    """The instructions that clang made, with the file descriptors of maps replaced by their places in `map_fds`."""
    code, sources = _code(instructions)
    for at in np.flatnonzero(sources == _MAP):
        code["constant"][at] = map_fds.index(int(code["constant"][at]))
    return code.tobytes()


def _code(instructions: bytes) -> tuple[_Instructions, npt.NDArray[np.uint8]]:
    """Instructions to change, and for each the source register if it is a 64-bit load, else 0."""
    code = np.frombuffer(instructions, _INSTRUCTION).copy()
    sources = code["registers"] >> _SOURCE_SHIFT & 0xF
    return code, np.where(code["code"] == _LOAD_64, sources, 0)


def _kernel_calls(code: _Instructions) -> npt.NDArray[np.intp]:
    """Which instructions call a function of `FUNCTIONS`. A call between our own has a source register."""
    return np.flatnonzero((code["code"] == CALL) & (code["registers"] == 0) & (code["constant"] >= _FIRST_FUNCTION))


def encoded(programs: Programs, origin: object) -> bytes:
    """The programs as a file. `origin`, anything that JSON has, is given back when it is decoded."""
    content = {
        "origin": origin,
        "license": programs.license,
        "maps": [asdict(spec) for spec in programs.maps],
        "functions": {name: code.hex() for name, code in programs.functions.items()},
    }
    body = json.dumps(content, separators=(",", ":")).encode()
    return b"%s %s\n%s" % (FORMAT, hashlib.sha256(body).hexdigest().encode(), body)


def decoded(data: bytes) -> tuple[Programs, Any]:
    """The programs of such a file, and their origin. Raises `ValueError` if it is damaged, or of another format."""
    head, _, body = data.partition(b"\n")
    if head != b"%s %s" % (FORMAT, hashlib.sha256(body).hexdigest().encode()):
        raise ValueError("not a file of compiled programs, or a damaged one")
    try:
        content = json.loads(body)
        maps = tuple(MapSpec(**spec) for spec in content["maps"])
        functions = {name: bytes.fromhex(code) for name, code in content["functions"].items()}
        programs = Programs(content["license"], maps, functions)
        origin = content["origin"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not compiled programs: {error}") from error
    for code in functions.values():
        _check(code, len(maps))
    return programs, origin


def _check(instructions: bytes, maps: int) -> None:
    """Whether all that is referred to is there. Raises `ValueError`."""
    code, sources = _code(instructions)
    for kind, number in ((_MAP, maps), (_NAMED_MAP, len(NAMED_MAPS)), (_VALUE, len(VALUES))):
        if (code["constant"][sources == kind] >= number).any():
            raise ValueError("a program refers to what is not there")
    if (code["constant"][_kernel_calls(code)] - _FIRST_FUNCTION >= len(FUNCTIONS)).any():
        raise ValueError("a program refers to a function that is not there")
