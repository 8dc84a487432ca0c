# SPDX-License-Identifier: GPL-2.0-or-later
"""The calls of libbpf that we use (tools/lib/bpf/bpf.h). bcc depends on it already, and it is ready at once.

Whoever calls lets other threads of Python run meanwhile. Failures raise `OSError`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from enum import IntEnum
from functools import cache

from kleaktrace.edge.bpf.compiled_programs import MapSpec
from kleaktrace.errors import EnvironmentRefusal

_NAME = 15
"""The kernel's names have no more characters (BPF_OBJ_NAME_LEN, less the NUL)."""

_ENOTSUPP = 524
"""include/linux/errno.h: the kernel's own, that C libraries have no words for."""

_LOG = 16 << 20  # what a program that is refused may need: the kernel has older ways with a log that is too small
_INSTRUCTION = 8
_MISSES_AT = 26  # words: recursion_misses in struct bpf_prog_info


class ProgramType(IntEnum):
    """BPF_PROG_TYPE_* (include/uapi/linux/bpf.h)."""

    KPROBE = 2
    RAW_TRACEPOINT = 17
    TRACING = 26


class AttachType(IntEnum):
    """BPF_TRACE_* of the same; 0 for programs other than TRACING."""

    NONE = 0
    FENTRY = 24
    FEXIT = 25


class _LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_char_p),
    )


class _MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts, as far as it is needed."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
    )


class _RunOptions(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


@cache
def library() -> ctypes.CDLL:
    """The library itself, for whoever wants more of it. Raises `EnvironmentRefusal` if it is not installed."""
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise EnvironmentRefusal(
            "libbpf.so.1 is not installed", "apt-get install python3-bpfcc (it brings libbpf1)"
        ) from error
    text, number, blob = ctypes.c_char_p, ctypes.c_uint32, ctypes.c_void_p
    loaded.bpf_map_create.argtypes = (ctypes.c_int, text, number, number, number, blob)
    loaded.bpf_prog_load.argtypes = (ctypes.c_int, text, text, blob, ctypes.c_size_t, blob)
    loaded.bpf_raw_tracepoint_open.argtypes = (text, ctypes.c_int)
    loaded.bpf_prog_test_run_opts.argtypes = (ctypes.c_int, blob)
    loaded.bpf_map_update_elem.argtypes = (ctypes.c_int, blob, blob, ctypes.c_uint64)
    loaded.bpf_map_lookup_elem.argtypes = (ctypes.c_int, blob, blob)
    loaded.bpf_map_delete_elem.argtypes = (ctypes.c_int, blob)
    loaded.bpf_obj_get_info_by_fd.argtypes = (ctypes.c_int, blob, blob)
    return loaded


def _result(value: int) -> int:
    if value < 0:
        raise OSError(-value, "not supported" if -value == _ENOTSUPP else os.strerror(-value))
    return value


def create_map(spec: MapSpec) -> int:
    """Make a map; its file descriptor."""
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=spec.flags)
    name = spec.name[:_NAME].encode()
    return _result(
        library().bpf_map_create(
            spec.type, name, spec.key_size, spec.value_size, spec.max_entries, ctypes.byref(options)
        )
    )


def load_program(
    kind: ProgramType, name: str, license_: str, instructions: bytes, attach_type: AttachType, attach_btf_id: int
) -> int:
    """Have the kernel verify and take a program; its file descriptor. The error has the verifier's last words."""
    options = _LoadOptions(
        sz=ctypes.sizeof(_LoadOptions), expected_attach_type=attach_type, attach_btf_id=attach_btf_id
    )

    def load() -> int:
        count = len(instructions) // _INSTRUCTION
        return int(
            library().bpf_prog_load(
                kind, name[:_NAME].encode(), license_.encode(), instructions, count, ctypes.byref(options)
            )
        )

    fd = load()
    if fd in (-errno.EACCES, -errno.EINVAL):  # the verifier's
        log = ctypes.create_string_buffer(_LOG)
        options.log_level, options.log_size, options.log_buf = 1, _LOG, ctypes.cast(log, ctypes.c_char_p)
        load()
        said = [line for line in log.value.decode(errors="replace").splitlines() if not line.startswith("processed ")]
        if said:
            raise OSError(-fd, said[-1])
    return _result(fd)


def open_raw_tracepoint(event: str | None, program_fd: int) -> int:
    """Attach a program to a raw tracepoint, or (None) to what it was loaded for; the attachment's file descriptor."""
    return _result(library().bpf_raw_tracepoint_open(None if event is None else event.encode(), program_fd))


def run(program_fd: int, arguments: Sequence[int]) -> int:
    """Run a program for raw tracepoints now, with arguments of 64 bits; what it returns (since v5.10)."""
    words = (ctypes.c_uint64 * len(arguments))(*arguments)
    options = _RunOptions(
        sz=ctypes.sizeof(_RunOptions), ctx_in=ctypes.addressof(words), ctx_size_in=ctypes.sizeof(words)
    )
    _result(library().bpf_prog_test_run_opts(program_fd, ctypes.byref(options)))
    return int(options.retval)


def recursion_misses(program_fd: int) -> int:
    """How often the kernel skipped a program because it was running already on that CPU; 0 before v5.12."""
    info, size = (ctypes.c_uint64 * (_MISSES_AT + 1))(), ctypes.c_uint32(8 * (_MISSES_AT + 1))
    _result(library().bpf_obj_get_info_by_fd(program_fd, info, ctypes.byref(size)))
    return info[_MISSES_AT]


def update(map_fd: int, key: bytes, value: bytes) -> None:
    """Write one element of a map."""
    _result(library().bpf_map_update_elem(map_fd, key, value, 0))


def lookup(map_fd: int, key: bytes, size: int) -> bytes:
    """Read one element of a map, of `size` bytes."""
    value = ctypes.create_string_buffer(size)
    _result(library().bpf_map_lookup_elem(map_fd, key, value))
    return value.raw


def delete(map_fd: int, key: bytes) -> None:
    """Delete an element of a map."""
    _result(library().bpf_map_delete_elem(map_fd, key))


@cache
def possible_cpus() -> int:
    """How many values an element of a per-CPU map has."""
    return _result(library().libbpf_num_possible_cpus())
