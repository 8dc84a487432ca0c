# SPDX-License-Identifier: GPL-2.0-or-later
"""BPF overrides what should_failslab and should_fail_alloc_page answer (bpf/inject.c).

Which allocations fail is decided in the kernel, by their call stacks: a filter, and what has failed before. Kernels
have it with CONFIG_BPF_KPROBE_OVERRIDE; both functions must be among those that may be overridden (lib/error-inject.c).
"""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kleaktrace.core.events.records import comm_text
from kleaktrace.core.evidence.injected_runs import Asked, FailedAllocation
from kleaktrace.core.injection.aim import Aim
from kleaktrace.core.injection.failed_stacks import asking_frames
from kleaktrace.core.symbols.symbol_table import Frame, FunctionPlace, SymbolTable
from kleaktrace.core.unwind.stack_paths import mix
from kleaktrace.edge.bpf import bcc_library
from kleaktrace.edge.bpf.bpf_object import AttachRefused, BpfObject
from kleaktrace.edge.bpf.btf import Btf, kernel_btf
from kleaktrace.edge.bpf.compiled_programs import value_macros
from kleaktrace.edge.bpf.program_cache import INJECTION, compiled_programs
from kleaktrace.edge.injection.abi import (
    DEPTH,
    FAILURE,
    FUNCTION_RANGES,
    INIT,
    KERNEL,
    MACHINERY_RANGES,
    MOST_STACKS,
    NAME_BYTES,
    ORDER,
    PAGE,
    PLACE_RANGE,
    TEXT_PAGE,
    Injected,
    Mode,
    State,
)
from kleaktrace.edge.injection.injector import Namer, Told
from kleaktrace.edge.tracing.probe_plan import Macros, make_plan
from kleaktrace.edge.tracing.tracer import read_kallsyms
from kleaktrace.errors import EnvironmentRefusal

FUNCTIONS = ("should_failslab", "should_fail_alloc_page")
MODULES = Path("/proc/modules")
DEBUGFS_MOUNTED = Path("/sys/kernel/debug/tracing")
INJECTABLE = Path("/sys/kernel/debug/error_injection/list")

_MODES = {Aim.NOTHING: Mode.COUNT, Aim.NEXT: Mode.NEXT, Aim.CHOSEN: Mode.CHOSEN, Aim.NUMBER: Mode.NTH}
_ASKED = {Injected.SLAB: Asked.SLAB, Injected.PAGES: Asked.PAGES}

# Pages that are asked for to serve an allocation that was asked about itself, and what kmemleak keeps for its books.
_MACHINERY = (
    *("___slab_alloc", "allocate_slab", "new_slab", "refill_objects"),
    *("stack_depot_save_flags", "stack_depot_save", "__stack_depot_save", "kmemleak_alloc"),
)


def name_hash(module: str) -> int:
    """A module by name, as bpf/inject.c has it."""
    name, key = module.encode()[: NAME_BYTES - 1].ljust(NAME_BYTES, b"\0"), 0
    for word in struct.unpack(f"={NAME_BYTES // 8}Q", name):
        key = mix(key ^ word)
    return key | 2


def _macros(btf: Btf, planned: Macros) -> Macros:
    offsets = {f"TASK_{name}".upper(): btf.offset("task_struct", name) for name in ("tgid", "flags")}
    missing = [name for name, offset in offsets.items() if offset is None]
    if missing:
        raise EnvironmentRefusal(f"BTF does not show {missing[0]}", "report this kernel's configuration to kleaktrace")
    names = ("KERNEL_TEXT", "ENTRY_TEXT", "MODULE_", "KALLSYMS_", "CACHE_NAME", "CACHE_OBJECT")
    kept = {name: value for name, value in planned.items() if name.startswith(names)}
    known = {name: offset for name, offset in offsets.items() if offset is not None}
    return {**kept, **known, "KMEMLEAK_NAME": f"{int.from_bytes(b'kmemleak', sys.byteorder):#x}ULL"}


@dataclass(frozen=True, slots=True)
class _Failure:
    """An injected_failure as it comes from the kernel."""

    time_ns: int
    addresses: Sequence[int]
    size: int
    asked: Asked
    key: int
    comm: bytes
    pid: int

    def told(self, frames: Sequence[Frame]) -> FailedAllocation:
        """The same with names."""
        stack = tuple(map(str, asking_frames(frames)))
        comm = comm_text(self.comm.partition(b"\0")[0])
        return FailedAllocation(self.time_ns, stack, self.size, self.asked, self.key, comm, self.pid)


class OverrideInjector:
    """Attached programs; see `Injector`. Raises `AttachRefused` if this kernel does not let us."""

    means = "BPF override of should_failslab and should_fail_alloc_page"
    sees_stacks = True

    def __init__(self, module: str | None = None) -> None:
        """Attach. module: only what goes through its code fails; None: through any module's."""
        if not bcc_library.has_kprobes():  # said before anything is compiled, in vain
            raise AttachRefused("it has no kprobes (CONFIG_KPROBE_EVENTS)")
        missing = [name for name in FUNCTIONS if name not in injectable()]
        if missing:
            raise AttachRefused(f"{' and '.join(missing)} can't be overridden")
        symbols = read_kallsyms()
        plan = make_plan(kernel_btf(), symbols, os.uname().machine)
        values = {name: plan.values[name] for name in ("KERNEL_TEXT", "ENTRY_TEXT") if name in plan.values}
        macros = {**_macros(kernel_btf(), plan.macros), **value_macros(values)}
        self._module = module
        self._kernel_text = plan.values.get("KERNEL_TEXT", 0)
        self._bases: dict[str, int] = {}
        self._functions: list[tuple[int, int, int]] = []
        self._any_text = False
        self._machinery = _ranges(symbols, _MACHINERY)
        self._run, self._aim = 0, Aim.NOTHING
        self._bpf = BpfObject(compiled_programs(macros, INJECTION), values, {})
        try:
            self._tell_modules(symbols)
            self._bpf.attach_raw_tracepoint("sched_process_fork", "on_fork")
            self._bpf.attach_raw_tracepoint("module_load", "on_load")
            self._bpf.attach_raw_tracepoint("module_free", "on_unload")
            self._bpf.run("watch_me", 0)
            for function in FUNCTIONS:
                self._bpf.attach_kprobe(function, f"on_{function}")
        except OSError as error:
            self._bpf.close()
            raise AttachRefused(str(error)) from error
        except BaseException:
            self._bpf.close()
            raise

    def _tell_modules(self, symbols: SymbolTable) -> None:
        """Where the modules are that are there already."""
        ranges = _module_text(symbols)
        for name, base in loaded_modules():
            if name not in ranges:
                continue
            first, last = ranges[name]
            self._bases[name] = start = base or first & -PAGE
            for page in range(start, last + 1, PAGE):
                self._bpf.write("text_pages", _u64(page // PAGE), TEXT_PAGE.pack(name_hash(name), page - start))
            if name == self._module:
                self._bpf.set_words("state", State.LOADED, 1)

    def only_through(self, places: Sequence[FunctionPlace]) -> None:
        """Have only what goes through a function fail, which is at these places. Once it is known where, that stays."""
        self._functions = [self._range(place) for place in places][:FUNCTION_RANGES]
        self._any_text = any(text == KERNEL for text, _, _ in self._functions) and self._module is None

    def _range(self, place: FunctionPlace) -> tuple[int, int, int]:
        """The text it is in, how far, and its length, as bpf/inject.c has them."""
        if not place.module:
            return KERNEL, place.address - self._kernel_text, place.length
        if place.text is None:
            return name_hash(place.module), place.address - self._bases.get(place.module, 0), place.length
        init = INIT if place.in_init else 0
        return name_hash(place.module), init + place.address - place.text.start, place.length

    def has_failed(self, keys: Sequence[int]) -> None:
        """Have these call stacks count as failed already."""
        for key in keys:
            self._bpf.write("failed", _u64(key), _u64(0))

    def begin(self, run: int, aim: Aim, wanted: int = 0) -> None:
        """As `Injector` has it."""
        self._run, self._aim = run, aim
        self._bpf.set_words("state", State.PASSED, 0)
        self._bpf.set_words("state", State.NOTED, 0)
        self._order(_MODES[aim], wanted)

    def _order(self, mode: Mode, wanted: int) -> None:
        module = 0 if self._module is None else name_hash(self._module)
        functions = b"".join(PLACE_RANGE.pack(*one) for one in self._functions)
        machinery = b"".join(struct.pack("=2Q", *one) for one in self._machinery)
        run = self._run + 1  # a run of 0 is none
        self._bpf.set_element("orders", 0, ORDER.pack(mode, run, wanted, module, self._any_text, functions, machinery))

    def command(self, command: Sequence[str]) -> Sequence[str]:
        """The same: who is started is seen."""
        return command

    def exited(self, pid: int) -> None:
        """Nothing is left to be asked of it."""

    def end(self, name: Namer) -> Told:
        """As `Injector` has it."""
        self._order(Mode.OFF, 0)
        (noted,) = self._bpf.words("state", State.NOTED, 1)
        failures = self._failures(min(noted, MOST_STACKS), name)
        if self._aim is Aim.NOTHING:
            return Told(None, failures)
        return Told(failures[0] if failures else None)

    def _failures(self, count: int, name: Namer) -> list[FailedAllocation]:
        raw = [self._failure(place) for place in range(count)]
        named = name([(one.time_ns, one.addresses) for one in raw])
        return [one.told(frames) for one, frames in zip(raw, named, strict=True)]

    def _failure(self, place: int) -> _Failure:
        raw = self._bpf.element("failures", place, FAILURE.size + 8 * DEPTH)
        _, time_ns, key, size, tgid, _, kind, depth, comm = FAILURE.unpack_from(raw)
        frames = struct.unpack_from(f"={DEPTH}Q", raw, FAILURE.size)[:depth]
        return _Failure(time_ns, frames, size, _ASKED[kind], key, comm, tgid)

    def close(self) -> None:
        """As `Injector` has it."""
        self._bpf.close()


def _u64(value: int) -> bytes:
    return struct.pack("=Q", value)


def _ranges(symbols: SymbolTable, names: Sequence[str]) -> list[tuple[int, int]]:
    """Address and length of the functions that there are."""
    found = []
    for name in names:
        address = symbols.address_of(name)
        frame = None if address is None else symbols.find(address)
        if address is not None and frame is not None:
            found.append((address, frame.size))
    return found[:MACHINERY_RANGES]


def injectable() -> set[str]:
    """The functions that may be overridden (lib/error-inject.c, ei_seq_show); where debugfs is not mounted, both."""
    try:
        return {line.split()[0] for line in INJECTABLE.read_text().splitlines() if line.strip()}
    except FileNotFoundError:
        return set() if DEBUGFS_MOUNTED.exists() else set(FUNCTIONS)
    except OSError:
        return set(FUNCTIONS)


_MODULE_SYMBOL = re.compile(rb"^([0-9a-f]{16}) [tT] \S+\t\[([^\]\n]+)\]$", re.MULTILINE)


def _module_text(symbols: SymbolTable) -> dict[str, tuple[int, int]]:
    """The first and the last address of each module's functions."""
    found: dict[str, tuple[int, int]] = {}
    for digits, module in _MODULE_SYMBOL.findall(symbols.text):
        address, name = int(digits, 16), module.decode(errors="replace")
        first, last = found.get(name, (address, address))
        found[name] = min(first, address), max(last, address)
    return found


_LOADED_MODULE = re.compile(r"^(\S+) \d+ \d+ \S+ \w+ 0x([0-9a-f]+)", re.MULTILINE)


def loaded_modules() -> list[tuple[str, int]]:
    """The modules that are loaded, and where their text begins, 0: not shown (kernel/module/procfs.c, m_show)."""
    try:
        text = MODULES.read_text()
    except OSError:
        return []
    return [(name, int(base, 16)) for name, base in _LOADED_MODULE.findall(text)]
