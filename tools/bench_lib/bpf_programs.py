# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own account of BPF programs: how often each ran, and for how long (bpf(2), struct bpf_prog_info)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench_lib import processes

_BPF_CALL = {"x86_64": 321, "aarch64": 280}
# include/uapi/linux/bpf.h, enum bpf_cmd
_PROG_GET_NEXT_ID, _PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _ENABLE_STATS = 11, 13, 15, 32
_TRACING_TYPES = (2, 5, 17, 26)  # enum bpf_prog_type: kprobe, tracepoint, raw tracepoint, fentry and its kin
_INFO_BYTES = 216
# Offsets in struct bpf_prog_info; run_cnt and recursion_misses follow run_time_ns.
_NAME_AT, _KSYM_COUNT_AT, _KSYMS_AT, _RUN_TIME_AT = 64, 104, 112, 192
_KALLSYMS = Path("/proc/kallsyms")
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Program:
    """One program's account, since statistics were enabled: runs, the time of all of them, and runs that were skipped.

    `name` is cut by the kernel at 15 characters; `type` is its enum bpf_prog_type; `address` is where its code is.
    """

    name: str
    type: int
    address: int
    runs: int
    time_ns: int
    skipped: int


@contextlib.contextmanager
def statistics() -> Iterator[None]:
    """Have the kernel keep account, for as long (BPF_ENABLE_STATS: it ends with us, whatever happens)."""
    fd = _bpf(_ENABLE_STATS, struct.pack("<I", 0))
    try:
        yield
    finally:
        os.close(fd)


def programs(pid: int) -> dict[int, Program]:
    """What a process's programs did so far, by id."""
    return {number: _program(number) for number in sorted({int(text) for text in processes.fdinfo(pid, "prog_id")})}


def tracing_now() -> list[str]:
    """Names of all programs on the machine that trace its kernel, whosoever they are."""
    found: list[str] = []
    number = 0
    while True:
        attribute = ctypes.create_string_buffer(struct.pack("<III", number, 0, 0), 128)
        if _LIBC.syscall(_BPF_CALL[platform.machine()], _PROG_GET_NEXT_ID, attribute, len(attribute)) < 0:
            return found  # ENOENT: that was the last
        (number,) = struct.unpack_from("<I", attribute.raw, 4)
        with contextlib.suppress(OSError):  # it is gone again
            program = _program(number)
            if program.type in _TRACING_TYPES:
                found.append(program.name)


def tracing_still() -> list[str]:
    """The same, but those of tracers that just ended get a moment to go."""
    end = time.monotonic() + 3
    while (found := tracing_now()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def since(before: dict[int, Program], now: dict[int, Program]) -> list[Program]:
    """What programs did between two looks, in the order in which they were loaded."""
    nothing = Program("", 0, 0, 0, 0, 0)
    found = []
    for number, program in now.items():
        then = before.get(number, nothing)
        runs, time_ns = program.runs - then.runs, program.time_ns - then.time_ns
        found.append(replace(program, runs=runs, time_ns=time_ns, skipped=program.skipped - then.skipped))
    return found


def named(accounts: list[Program]) -> list[Program]:
    """The same with whole names, which /proc/kallsyms has (bpf_prog_TAG_NAME) while the programs are loaded.

    Not of every program: those that share a name are numbered, in their order.
    """
    names = {}
    for line in _KALLSYMS.read_text().splitlines():
        address, _, symbol = line.split("\t")[0].split(" ", 2)
        name = symbol.removeprefix("bpf_prog_").partition("_")[2]
        if name and symbol.startswith("bpf_prog_"):
            names[int(address, 16)] = name
    found: list[Program] = []
    for program in accounts:
        name = names.get(program.address, program.name)
        same = sum(other.name.partition(" #")[0] == name for other in found)
        found.append(replace(program, name=f"{name} #{same + 1}" if same else name))
    return found


def _program(number: int) -> Program:
    fd = _bpf(_PROG_GET_FD_BY_ID, struct.pack("<III", number, 0, 0))
    try:
        info, address = ctypes.create_string_buffer(_INFO_BYTES), ctypes.c_uint64()
        struct.pack_into("<I", info, _KSYM_COUNT_AT, 1)
        struct.pack_into("<Q", info, _KSYMS_AT, ctypes.addressof(address))
        _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, _INFO_BYTES, ctypes.addressof(info)))
    finally:
        os.close(fd)
    time_ns, runs, skipped = struct.unpack_from("<3Q", info.raw, _RUN_TIME_AT)
    name = info.raw[_NAME_AT : _NAME_AT + 16].rstrip(b"\0").decode()
    (kind,) = struct.unpack_from("<I", info.raw)
    return Program(name, kind, address.value, runs, time_ns, skipped)


def _bpf(command: int, attribute: bytes) -> int:
    buffer = ctypes.create_string_buffer(attribute.ljust(128, b"\0"), 128)
    result: int = _LIBC.syscall(_BPF_CALL[platform.machine()], command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
