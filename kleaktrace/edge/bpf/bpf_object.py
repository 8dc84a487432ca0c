# SPDX-License-Identifier: GPL-2.0-or-later
"""Our BPF programs in the kernel: their maps, loading and attaching them.

They are attached one by one, because a refused probe has a fallback.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from kleaktrace.edge.bpf import bcc_library, libbpf
from kleaktrace.edge.bpf.btf import kernel_btf
from kleaktrace.edge.bpf.compiled_programs import Programs
from kleaktrace.edge.bpf.libbpf import AttachType, ProgramType
from kleaktrace.errors import EnvironmentRefusal

_LOG = logging.getLogger(__name__)

_KEY = struct.Struct("=I")
_WORD = 8
_ENTRY, _RETURN = "kfunc__", "kretfunc__"  # bcc's helpers.h, KFUNC_PROBE and KRETFUNC_PROBE


class AttachRefused(Exception):
    """The kernel did not take a probe; the text is its reason, in one line."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A function of our C sources, and the kind of program that it is to be; `target`: for fentry and fexit."""

    function: str
    kind: ProgramType
    attach_type: AttachType = AttachType.NONE
    target: str = ""

    @classmethod
    def raw_tracepoint(cls, function: str) -> Hook:
        """To be run at raw tracepoints."""
        return cls(function, ProgramType.RAW_TRACEPOINT)

    @classmethod
    def kprobe(cls, function: str) -> Hook:
        """To be run at kprobes and kretprobes."""
        return cls(function, ProgramType.KPROBE)

    @classmethod
    def fentry(cls, target: str) -> Hook:
        """`kfunc__TARGET`, to be run whenever the kernel function `target` is entered."""
        return cls(f"{_ENTRY}{target}", ProgramType.TRACING, AttachType.FENTRY, target)

    @classmethod
    def fexit(cls, target: str) -> Hook:
        """`kretfunc__TARGET`, to be run whenever the kernel function `target` returns."""
        return cls(f"{_RETURN}{target}", ProgramType.TRACING, AttachType.FEXIT, target)

    def both(self) -> tuple[Hook, Hook]:
        """This, and the same for `second_TARGET`, in the order in which they are to run."""
        return self, replace(self, function=f"second_{self.target}")

    @property
    def kernel_name(self) -> str:
        """What the kernel is to call the program: of this it shows 15 characters."""
        return self.function.removeprefix(_ENTRY).removeprefix(_RETURN).replace("kmem_cache", "cache")


class BpfObject:
    """Our compiled programs, with maps of their own; not attached to anything yet.

    `values` are those of `compiled_programs.VALUES` that the programs need; `sizes`: entries of maps for which what was
    compiled does not count. Raises `EnvironmentRefusal` when the kernel refuses the maps.
    """

    def __init__(self, programs: Programs, values: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        self._programs = programs
        self._values = values
        self._maps: dict[str, int] = {}
        self._loaded: dict[str, int] = {}
        self._undo: list[Callable[[], object]] = []
        try:
            for spec in programs.maps:
                sized = replace(spec, max_entries=sizes.get(spec.name, spec.max_entries))
                self._maps[spec.name] = libbpf.create_map(sized)
        except OSError as error:
            self.close()
            raise EnvironmentRefusal(
                f"the BPF map {spec.name!r} could not be made: {error.strerror}",
                "run as root; `kleaktrace doctor` shows what this kernel refuses",
            ) from error

    def load_ahead(self, hooks: Iterable[Hook]) -> None:
        """Have the kernel verify programs on all processors at once. What it refuses comes up when it is attached."""
        waiting = deque(sorted(hooks, key=lambda hook: -len(self._programs.functions.get(hook.function, b""))))

        def work() -> None:
            while True:
                try:
                    hook = waiting.popleft()
                except IndexError:
                    return
                try:
                    self._load(hook)
                except AttachRefused as refusal:
                    _LOG.debug("%s is not loaded ahead: %s", hook.function, refusal)

        others = [threading.Thread(target=work) for _ in range(min(os.cpu_count() or 1, len(waiting)) - 1)]
        for thread in others:
            thread.start()
        work()
        for thread in others:
            thread.join()

    def _load(self, hook: Hook) -> int:
        """The file descriptor of a program, which is loaded now if it is not yet. Raises `AttachRefused`."""
        if hook.function in self._loaded:
            return self._loaded[hook.function]
        if hook.function not in self._programs.functions:
            raise AttachRefused(f"there is no program {hook.function}")
        code = self._programs.linked(hook.function, tuple(self._maps.values()), self._values)
        number = kernel_btf().function_id(hook.target) or 0 if hook.target else 0
        try:
            fd = libbpf.load_program(
                hook.kind, hook.kernel_name, self._programs.license, code, hook.attach_type, number
            )
        except OSError as error:
            raise AttachRefused(f"the program was not loaded: {error.strerror}") from error
        self._loaded[hook.function] = fd
        return fd

    @property
    def attached(self) -> int:
        """How many programs are attached; what `detach_to` takes."""
        return len(self._undo)

    def detach_to(self, count: int) -> None:
        """Detach what was attached last, until `count` programs are left."""
        while len(self._undo) > count:
            self._undo.pop()()

    def attach_raw_tracepoint(self, event: str, *functions: str) -> None:
        """Run the functions at a raw tracepoint, in this order."""
        for function in functions:
            self._keep(self._attach_raw(event, function))

    def _attach_raw(self, event: str, function: str) -> int:
        return self._open(f"raw tracepoint {event}", event, Hook.raw_tracepoint(function))

    def attach_fentry(self, target: str, once: bool = False) -> None:
        """Run `kfunc__TARGET` whenever the kernel function `target` is entered. once: then `second_TARGET`, too."""
        self._attach_to_function("fentry", Hook.fentry(target), once)

    def attach_fexit(self, target: str, once: bool = False) -> None:
        """Run `kretfunc__TARGET` whenever the kernel function `target` returns. once: then `second_TARGET`, too."""
        self._attach_to_function("fexit", Hook.fexit(target), once)

    def _attach_to_function(self, how: str, first: Hook, once: bool) -> None:
        # The kernel runs what was attached last first (kernel/bpf/trampoline.c, bpf_trampoline_link_prog).
        for hook in reversed(first.both()) if once else (first,):
            self._keep(self._open(f"{how} of {hook.target}", None, hook))

    def _open(self, what: str, event: str | None, hook: Hook) -> int:
        program = self._load(hook)
        try:
            return libbpf.open_raw_tracepoint(event, program)
        except OSError as error:
            raise AttachRefused(f"{what}: {error.strerror}") from error

    def _keep(self, fd: int) -> None:
        """An attachment, which ends when its file descriptor is closed."""
        self._undo.append(lambda: os.close(fd))

    def attach_kprobe(self, target: str, function: str) -> None:
        """Run `function` whenever the kernel function `target` is entered."""
        self._attach_kprobe(target, function, at_return=False)

    def attach_kretprobe(self, target: str, function: str) -> None:
        """Run `function` whenever the kernel function `target` returns."""
        self._attach_kprobe(target, function, at_return=True)

    def _attach_kprobe(self, target: str, function: str, at_return: bool) -> None:
        if not bcc_library.has_kprobes():  # said before a program is loaded, and verified, in vain
            raise AttachRefused("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)")
        program = self._load(Hook.kprobe(function))
        try:
            self._undo.append(bcc_library.attach_kprobe(program, target, at_return))
        except OSError as error:
            raise AttachRefused(str(error)) from error

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""
        return self._maps[name]

    def per_cpu_totals(self, name: str, length: int) -> list[int]:
        """Sums over all CPUs of the counters in a per-CPU array's only element, `length` u64."""
        counters = struct.Struct(f"={length}Q")
        each = libbpf.lookup(self._maps[name], _KEY.pack(0), libbpf.possible_cpus() * counters.size)
        return [sum(column) for column in zip(*counters.iter_unpack(each), strict=True)]

    def set_element(self, name: str, index: int, value: bytes) -> None:
        """Write one element of an array map."""
        libbpf.update(self._maps[name], _KEY.pack(index), value)

    def element(self, name: str, index: int, size: int) -> bytes:
        """Read one element of an array map whose elements are so many bytes."""
        return libbpf.lookup(self._maps[name], _KEY.pack(index), size)

    def set_words(self, name: str, index: int, *words: int) -> None:
        """Write one element of an array map whose elements are that many u64."""
        self.set_element(name, index, struct.pack(f"={len(words)}Q", *words))

    def words(self, name: str, index: int, length: int) -> tuple[int, ...]:
        """Read one element of an array map whose elements are `length` u64."""
        found: tuple[int, ...] = struct.unpack(f"={length}Q", self.element(name, index, length * _WORD))
        return found

    def write(self, name: str, key: bytes, value: bytes) -> bool:
        """Write one element of any map; False if the kernel has no room for it."""
        try:
            libbpf.update(self._maps[name], key, value)
        except OSError:
            return False
        return True

    def delete(self, name: str, key: bytes) -> None:
        """Delete an element of a map, if it is there."""
        with contextlib.suppress(OSError):
            libbpf.delete(self._maps[name], key)

    def run(self, function: str, *arguments: int) -> int:
        """Run a program for raw tracepoints now, with these arguments; what it returns, as u32.

        Raises `OSError`: the kernel does not do that, or refuses the program.
        """
        try:
            return libbpf.run(self._load(Hook.raw_tracepoint(function)), arguments)
        except AttachRefused as refusal:
            raise OSError(str(refusal)) from refusal

    def missed_runs(self) -> dict[str, int]:
        """By function: how often the kernel skipped it because it was running already on that CPU."""
        loaded = list(self._loaded.items())  # another thread may load one meanwhile
        return {function: libbpf.recursion_misses(fd) for function, fd in loaded}

    def close(self) -> None:
        """Detach everything, and let go of programs and maps. May be called twice."""
        self.detach_to(0)
        for fds in (self._loaded, self._maps):
            while fds:
                os.close(fds.popitem()[1])
