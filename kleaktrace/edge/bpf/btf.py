# SPDX-License-Identifier: GPL-2.0-or-later
"""What this kernel's own type information says: argument positions and structure offsets.

Read through libbpf, which bcc already depends on, so that nothing here parses BTF by hand
(Documentation/bpf/btf.rst; tools/lib/bpf/btf.h).
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from kleaktrace.edge.bpf.libbpf import library
from kleaktrace.errors import EnvironmentRefusal

VMLINUX = Path("/sys/kernel/btf/vmlinux")

# BTF_KIND_* (include/uapi/linux/btf.h)
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC = 1, 3, 4, 5, 6, 8, 9, 10, 11, 12
_VAR, _TYPE_TAG = 14, 18
_MODIFIERS = (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG)


class _Type(ctypes.Structure):
    _fields_ = (("name_off", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size_or_type", ctypes.c_uint32))

    @property
    def kind(self) -> int:
        return int(self.info) >> 24 & 0x1F

    @property
    def vlen(self) -> int:
        return int(self.info) & 0xFFFF

    @property
    def has_bitfields(self) -> bool:
        return bool(int(self.info) >> 31)


class _Member(ctypes.Structure):
    _fields_ = (("name_off", ctypes.c_uint32), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32))


class _Parameter(ctypes.Structure):
    _fields_ = (("name_off", ctypes.c_uint32), ("type", ctypes.c_uint32))


class _Enumerator(ctypes.Structure):
    _fields_ = (("name_off", ctypes.c_uint32), ("value", ctypes.c_int32))


class Btf:
    """The kernel's BTF. Look-ups answer None where this kernel has no such thing."""

    def __init__(self) -> None:
        self._lib = library()
        self._lib.btf__load_vmlinux_btf.restype = ctypes.c_void_p
        self._lib.btf__type_by_id.restype = ctypes.c_void_p
        self._lib.btf__type_by_id.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        self._lib.btf__name_by_offset.restype = ctypes.c_char_p
        self._lib.btf__name_by_offset.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        self._lib.btf__find_by_name_kind.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32)
        if not VMLINUX.exists():
            raise EnvironmentRefusal(
                f"this kernel carries no type information ({VMLINUX} is missing)",
                "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (the distributions' kernels are)",
            )
        self._btf = self._lib.btf__load_vmlinux_btf()
        if not self._btf:
            raise EnvironmentRefusal(f"libbpf cannot read {VMLINUX}", "run as root")

    def _name(self, offset: int) -> str:
        raw: bytes = self._lib.btf__name_by_offset(self._btf, offset)
        return raw.decode()

    def _type(self, type_id: int) -> tuple[_Type, int]:
        """The type's head, and the address of what follows it."""
        address = self._lib.btf__type_by_id(self._btf, type_id)
        return _Type.from_address(address), address + ctypes.sizeof(_Type)

    def _find(self, name: str, kind: int) -> int | None:
        found: int = self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind)
        return found if found > 0 else None

    def _strip(self, type_id: int) -> int:
        while self._type(type_id)[0].kind in _MODIFIERS:
            type_id = self._type(type_id)[0].size_or_type
        return type_id

    def function_id(self, name: str) -> int | None:
        """BTF's number for a function, as fentry needs."""
        return self._find(name, _FUNC)

    def struct_id(self, name: str) -> int | None:
        """BTF's number for a structure."""
        return self._find(name, _STRUCT)

    def size(self, struct: str) -> int | None:
        """Bytes of a structure."""
        found = self.struct_id(struct)
        return None if found is None else int(self._type(found)[0].size_or_type)

    def has_function(self, name: str) -> bool:
        """Whether BTF knows a function of this name."""
        return self.function_id(name) is not None

    def has_variable(self, name: str) -> bool:
        """Whether BTF knows a per-CPU variable of this name."""
        return self._find(name, _VAR) is not None

    def parameters(self, function: str) -> tuple[str, ...] | None:
        """Parameter names of a function, in order."""
        found = self._find(function, _FUNC)
        if found is None:
            return None
        prototype, tail = self._type(self._type(found)[0].size_or_type)
        array = (_Parameter * prototype.vlen).from_address(tail)
        return tuple(self._name(p.name_off) for p in array)

    def result_bytes(self, function: str) -> int | None:
        """Size of what a function returns, if that is a number or a truth value: only so many bytes of it are set."""
        found = self._find(function, _FUNC)
        if found is None:
            return None
        prototype, _ = self._type(self._type(found)[0].size_or_type)
        result, _ = self._type(self._strip(prototype.size_or_type)) if prototype.size_or_type else (prototype, 0)
        return int(result.size_or_type) if result.kind == _INT else None

    def tracepoint_arguments(self, event: str) -> tuple[str, ...] | None:
        """Names of a raw tracepoint's arguments, in order; None: this kernel has no such tracepoint.

        `__traceiter_EVENT(void *__data, …)` is the function behind every tracepoint
        (include/linux/tracepoint.h, since v5.10); its first parameter is not the event's.
        """
        parameters = self.parameters(f"__traceiter_{event}")
        return None if parameters is None else parameters[1:]

    def _member(self, type_id: int, name: str) -> tuple[int, int] | None:
        """(byte offset, type id) of a member, looked for in anonymous members too."""
        head, tail = self._type(type_id)
        if head.kind not in (_STRUCT, _UNION):
            return None
        for member in (_Member * head.vlen).from_address(tail):
            offset = int(member.offset)
            bits = offset & 0xFFFFFF if head.has_bitfields else offset
            found_name = self._name(member.name_off)
            if found_name == name:
                return bits // 8, int(member.type)
            if not found_name:
                inner = self._member(self._strip(member.type), name)
                if inner is not None:
                    return bits // 8 + inner[0], inner[1]
        return None

    def offset(self, struct: str, *path: str | int) -> int | None:
        """Byte offset of a member, by names and array indices: `offset("module", "mem", 0, "base")`."""
        type_id = self.struct_id(struct)
        total = 0
        for step in path:
            if type_id is None:
                return None
            type_id = self._strip(type_id)
            if isinstance(step, int):
                element = self._element(type_id)
                if element is None:
                    return None
                type_id, size = element
                total += step * size
                continue
            found = self._member(type_id, step)
            if found is None:
                return None
            total += found[0]
            type_id = found[1]
        return None if type_id is None else total

    def _element(self, type_id: int) -> tuple[int, int] | None:
        """(type id, size in bytes) of an array's elements; they must be structures."""
        head, tail = self._type(type_id)
        if head.kind != _ARRAY:
            return None
        element = self._strip(ctypes.c_uint32.from_address(tail).value)
        inner = self._type(element)[0]
        return (element, int(inner.size_or_type)) if inner.kind in (_STRUCT, _UNION) else None

    def enumerator(self, enum: str, name: str) -> int | None:
        """Value of an enumerator."""
        found = self._find(enum, _ENUM)
        if found is None:
            return None
        head, tail = self._type(found)
        for item in (_Enumerator * head.vlen).from_address(tail):
            if self._name(item.name_off) == name:
                return int(item.value)
        return None


@cache
def kernel_btf() -> Btf:
    """This kernel's BTF, loaded once (about 30 ms)."""
    return Btf()
