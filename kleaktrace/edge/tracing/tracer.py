# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracing the running kernel: attaches the plan's probes, and turns what they report into batches and names."""

from __future__ import annotations

import logging
import mmap
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.clock import Moment
from kleaktrace.core.events.coverage import Coverage, CoverageKind, StackCheck
from kleaktrace.core.events.loss import Loss, LossWindow
from kleaktrace.core.events.records import Batch
from kleaktrace.core.report import Kernel
from kleaktrace.core.symbols.kernel_names import CacheName, KernelNames
from kleaktrace.core.symbols.symbol_table import SymbolTable, parse_kallsyms
from kleaktrace.core.symbols.unnamed_keys import UnnamedKeys
from kleaktrace.core.unwind.stack_paths import StackSample
from kleaktrace.edge.bpf import libbpf
from kleaktrace.edge.bpf.bpf_object import BpfObject
from kleaktrace.edge.bpf.btf import kernel_btf
from kleaktrace.edge.bpf.compiled_programs import value_macros
from kleaktrace.edge.bpf.program_cache import compiled_programs
from kleaktrace.edge.bpf.rdonly_cast import FUNCTION as PLAIN_LOADS
from kleaktrace.edge.bpf.rdonly_cast import plain_loads
from kleaktrace.edge.debug_info.build_ids import BuildIdReader
from kleaktrace.edge.machine.meminfo import memory_in_use
from kleaktrace.edge.tracing import name_records
from kleaktrace.edge.tracing.abi import MOMENT, TEXT_RANGE, Counter, ModuleText, State
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.loss_counters import LossCounters, seconds_took, skipped_events
from kleaktrace.edge.tracing.module_symbols import MOST_KEPT, ModuleSymbols
from kleaktrace.edge.tracing.object_reader import ObjectReader
from kleaktrace.edge.tracing.page_events import machine_page_space, page_roles
from kleaktrace.edge.tracing.probe_attacher import ProbeAttacher
from kleaktrace.edge.tracing.probe_plan import Macros, Plan, make_plan
from kleaktrace.edge.tracing.ring import EventRing, NameRing
from kleaktrace.edge.tracing.ring_waiter import RingWaiter
from kleaktrace.edge.tracing.running_programs import running_programs
from kleaktrace.edge.tracing.sheaf_reader import SheafReader, Unreadable, sheaf_layout
from kleaktrace.edge.tracing.stack_path_writer import MOST_PATHS, StackPathWriter
from kleaktrace.errors import EnvironmentRefusal

_LOG = logging.getLogger(__name__)

KALLSYMS = Path("/proc/kallsyms")
PID_NAMESPACE = Path("/proc/self/ns/pid")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # include/linux/proc_ns.h, PROC_PID_INIT_INO

_EVENT_RING = (16 << 20, 128 << 20)
"""At least and at most; a busy core writes 130 MB a second."""

_EVENT_RING_SHARE = 16
"""At most one part in so many of the machine's memory."""

NAME_RING = 8 << 20

_LATE_NS = 1_000_000_000
"""From when a name could not be told, at most so long until the event is polled that it was for."""

_IN_FLIGHT_S = 0.005
"""So long at most an event is on its way from the first program for it to the second."""

_MACROS: Macros = {
    # For the compiler, who makes the maps, too, counts in 4096 bytes, and the kernel in its own pages.
    "EVENT_RING_PAGES": mmap.PAGESIZE // 4096,
    "NAME_RING_PAGES": mmap.PAGESIZE // 4096,
    "KNOWN_STACKS": 65536,
    "STACK_PATHS": MOST_PATHS,
    "KNOWN_CACHES": 4096,
    "TOLD_MODULES": MOST_KEPT,
}


def read_kallsyms() -> SymbolTable:
    """A snapshot of /proc/kallsyms. Raises `EnvironmentRefusal` when the kernel hides the addresses."""
    table = parse_kallsyms(KALLSYMS.read_bytes())
    if not table.starts.size or not table.starts[-1]:
        raise EnvironmentRefusal(
            "the kernel hides its symbols' addresses", "run as root, and if need be: sysctl kernel.kptr_restrict=1"
        )
    return table


def event_ring_size(memory: int) -> int:
    """Bytes for the event ring of a machine with so many bytes of memory: a power of two."""
    least, most = _EVENT_RING
    share = max(memory // _EVENT_RING_SHARE, 1)
    return min(max(1 << share.bit_length() - 1, least), most)


def _pid_namespace() -> dict[str, int]:
    """Our PID namespace, if it is not the kernel's first, whose numbers are what the programs see by default."""
    try:
        namespace = PID_NAMESPACE.stat()
    except FileNotFoundError:  # a kernel without CONFIG_PID_NS has no other
        return {}
    if namespace.st_ino == _FIRST_PID_NAMESPACE:
        return {}
    device = os.major(namespace.st_dev) << 20 | os.minor(namespace.st_dev)  # the kernel's own dev_t
    return {"PID_NAMESPACE": namespace.st_ino, "PID_NAMESPACE_DEVICE": device}


def _path_writer(bpf: BpfObject, plan: Plan) -> StackPathWriter:
    start = plan.values.get("KERNEL_TEXT", 0)
    kernel_text = range(start, start + int(plan.macros.get("KERNEL_TEXT_LENGTH", 0)))
    return StackPathWriter(bpf, kernel_text, plan.signed_bits)


class Tracer:
    """Attached probes. A context manager: leaving it detaches them.

    `names` grows while tracing; whatever `poll` returns refers only to stacks and caches that are in it by then.
    """

    def __init__(
        self,
        filters: Filters | None = None,
        event_ring: int | None = None,
        left_out: frozenset[str] = frozenset(),
        exact_stacks: bool = False,
        pages: bool = False,
        compiling: Callable[[], None] = lambda: None,
    ) -> None:
        """Attach.

        `event_ring`: its bytes, a power of two; None: by the machine's memory. `left_out`: ways of hooking ("fentry",
        "fexit", "kprobe", …) and of reading memory ("bpf_rdonly_cast") that are not used, to try a fallback.
        `exact_stacks`: unwind always, instead of recognising the stacks that are known. `pages`: trace the page
        allocator, too. `compiling`: see `compiled_programs`.
        """
        if os.geteuid() != 0:
            raise EnvironmentRefusal("tracing the kernel needs root", "run it with sudo")
        filters = filters or Filters()
        event_ring = event_ring or event_ring_size(memory_in_use()["MemTotal"])
        begun = time.monotonic()
        base = read_kallsyms()
        self.plan: Plan = make_plan(kernel_btf(), base, os.uname().machine, machine_page_space() if pages else None)
        self.filters = filters
        self.stack_check = StackCheck()
        """As of the last `check_loss`."""
        self._lost = LossCounters()
        self._windows: list[LossWindow] = []
        loads = {} if PLAIN_LOADS in left_out else plain_loads(kernel_btf())
        self.has_plain_loads = bool(loads)
        """Whether programs read kernel memory by plain loads, or copy it piece by piece, which costs more."""
        values = {"SELF": os.getpid(), **_pid_namespace(), **self.plan.values, **loads, **filters.values()}
        macros = {**_MACROS, **self.plan.macros, **filters.macros(), **value_macros(values)}
        if not exact_stacks:
            macros["RECOGNISE_STACKS"] = 1
        self._bpf = BpfObject(
            compiled_programs(macros, compiling=compiling),
            values,
            {"events": event_ring, "names": NAME_RING, **self.plan.map_sizes},
        )
        self._reader = ObjectReader(self._bpf)
        self._slab_caches, self._cpu_offsets = map(base.address_of, ("slab_caches", "__per_cpu_offset"))
        self._path_writer = None if exact_stacks else _path_writer(self._bpf, self.plan)
        self._modules = ModuleSymbols(self._bpf)
        self._untold, self._untold_until_ns = 0, 0
        try:
            self._events = EventRing(self._bpf.map_fd("events"), event_ring)
            self._names = NameRing(self._bpf.map_fd("names"), NAME_RING)
            self._rings = [self._events, self._names]
            self._state = mmap.mmap(self._bpf.map_fd("state"), mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
            self._waiter = RingWaiter(self._bpf.map_fd(name) for name in ("events", "names"))
            attacher = ProbeAttacher(self._bpf, left_out)
            self.refusals = attacher.refusals
            self.coverage = attacher.attach_all(self.plan.event_kinds)
            attacher.watch_tasks()
            attacher.watch_programs()
            self._tell(base, pages)
            _LOG.info("ready after %.2f s; contexts by %s", time.monotonic() - begun, self.plan.context_source)
            # While the programs of an event are attached one by one, the second can't yet stand in for the first.
            self._before = self._read_losses()
            self._bpf.set_words("state", State.RECORDING, 1)
            self.started = self.moment()
            # Once more, and only now that events go into the ring: the BPF programs and trampolines have names, too.
            self.names = KernelNames(read_kallsyms())
            self._build_ids = BuildIdReader(self.names.build_ids)
            self._name_programs()
            self._nameless = {
                "stack": UnnamedKeys(self.names.stacks),
                "cache": UnnamedKeys(self.names.caches),
            }
        except BaseException:
            self._bpf.close()
            raise
        self._checked_ns = self.started.time_ns

    def _tell(self, base: SymbolTable, pages: bool) -> None:
        """Tell the programs whose pages are counted elsewhere, and where a module to filter for has its code."""
        if pages:  # symbols of now have the trampolines by which the programs are called
            for place, role in page_roles(read_kallsyms()).items():
                self._bpf.write("page_roles", place.to_bytes(8, sys.byteorder), bytes([role]))
        loaded = base.module_range(self.filters.module) if self.filters.module else None
        if loaded is not None:
            first, last = loaded
            length = (last - first) // mmap.PAGESIZE * mmap.PAGESIZE + mmap.PAGESIZE
            self._bpf.set_element("module_text", ModuleText.CORE_TEXT, TEXT_RANGE.pack(first, length))

    def _name_programs(self) -> None:
        """Name the programs that are running already."""
        if not _pid_namespace():  # else /proc has other numbers than events
            for tgid, arguments in running_programs():
                self.names.programs.add(tgid, 0, arguments)

    @property
    def kernel(self) -> Kernel:
        """The running one."""
        uname = os.uname()
        return Kernel(uname.release, uname.machine, uname.nodename)

    @property
    def processors(self) -> int:
        """So many this machine may have."""
        return libbpf.possible_cpus()

    @property
    def context_source(self) -> str:
        """How it is known what a processor was doing when it allocated."""
        return self.plan.context_source

    def poll(self) -> Batch:
        """Everything reported since the last call, up to a bound; names first come into `names`."""
        batch = self._events.take()
        for record in self._names.take():
            self._learn(name_records.decode(record))
        self._note_nameless(batch)
        keys = batch.allocations["stack"]
        first_keys = self.names.stacks.first_keys(keys)
        if first_keys is not keys:  # mostly they are: no module has come again
            batch.allocations["stack"] = first_keys
        sites = batch.frees["call_site"]
        site_keys = self.names.sites.keys(sites, batch.frees["time_ns"])
        if site_keys is not sites:  # mostly they are: no module has freed anything
            batch.frees["call_site"] = site_keys
        return batch

    def _note_nameless(self, batch: Batch) -> None:
        """Look for keys without a name if some names could not be told lately; events may come somewhat later."""
        # Mapped, for a system call has the kernel free something: each poll would bring another event.
        untold = int.from_bytes(self._state[8 * State.UNTOLD : 8 * State.UNTOLD + 8], sys.byteorder)
        if untold != self._untold:
            self._untold, self._untold_until_ns = untold, time.monotonic_ns() + _LATE_NS
        if time.monotonic_ns() < self._untold_until_ns:
            for field, nameless in self._nameless.items():
                nameless.note(batch.allocations[field])

    @property
    def backlog(self) -> float:
        """How full the event ring is, 0 to 1."""
        return self._events.pending / self._events.size

    @property
    def reported(self) -> int:
        """How far the kernel has come: `polled` reaches it when everything reported by now has been polled."""
        return self._events.produced

    @property
    def polled(self) -> int:
        """How far `poll` has come."""
        return self._events.taken

    def wait(self, seconds: float) -> None:
        """Return after so long, or as soon as a program wakes us (BPF_RB_FORCE_WAKEUP) or `wake` was called once."""
        self._waiter.wait(seconds)

    def wake(self) -> None:
        """End all waiting, now and from now on."""
        self._waiter.stop()

    def pause(self) -> None:
        """Have the kernel report nothing more."""
        self._bpf.set_words("state", State.RECORDING, 0)

    def _learn(self, name: name_records.Name) -> None:
        match name:
            case name_records.StackName(key, addresses):
                self._modules.name()
                self.names.stacks.add(key, addresses)
                for forgotten in self.names.stacks.take_forgotten():
                    self._bpf.delete("known_stacks", forgotten.to_bytes(8, "little"))
            case StackSample():
                if self._path_writer is not None:
                    self._path_writer.learn(name)
            case CacheName():
                self.names.caches[name.key] = name
            case name_records.ModuleLoaded(image):
                self.names.symbols.module_loaded(image)
                self._modules.loaded(name)
                self._build_ids.module_loaded(image.name)
            case name_records.ModuleFreed(module, key, time_ns):
                self.names.symbols.module_freed(module, key, time_ns)
                self._modules.freed(key)
            case name_records.ModulePage():
                self._modules.page(name)
            case name_records.ProgramName(tgid, time_ns, arguments):
                self.names.programs.add(tgid, time_ns, arguments)

    def now_ns(self) -> int:
        """Now, by the clock of the events (CLOCK_MONOTONIC)."""
        return time.monotonic_ns()

    def moment(self) -> Moment:
        """Now, by both of the kernel's clocks: opening a file makes our own program look at them."""
        os.close(os.open(os.devnull, os.O_RDONLY))
        time_ns, jiffies = MOMENT.unpack(self._bpf.element("clock", 0, MOMENT.size))
        if not time_ns:
            raise EnvironmentRefusal(
                "the kernel does not report our own allocations",
                "report this kernel and its configuration to kleaktrace",
            )
        return Moment(time_ns, jiffies)

    def free_before(self, address: int) -> int:
        """Bytes of the free range of vmalloc's addresses that ends at an address (hidden); 0 if there is none.

        Raises OSError where the kernel does not show its free ranges.
        """
        if "FREE_AREAS" not in self.plan.values:
            raise OSError("this kernel does not tell where it keeps its free ranges of addresses")
        return self._bpf.run("pages_free_before", address) * mmap.PAGESIZE

    def read_objects(self, objects: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.uint64]]:
        """What objects hold now. For each (hidden address, bytes), the complements of its words, of at most 4096 bytes.

        An array is empty where there is no memory (a per-CPU object, what was unmapped meanwhile), and all are if
        `reads_objects` says no. May be called after `pause`. Leave out what vmalloc's events report where vmalloc
        itself can't be hooked: that may be a device.
        """
        return self._reader.read(objects)

    def handed_out(self) -> U64 | None:
        """The hidden addresses of objects that sheaves of slab caches point to, and are not in them.

        Empty where the kernel has no sheaves; None where it has some, and does not let us read them.
        """
        layout, cpus = sheaf_layout(kernel_btf()), libbpf.possible_cpus()
        if layout is None:
            return np.zeros(0, np.uint64)
        if self._slab_caches is None or (self._cpu_offsets is None and cpus > 1):
            return None
        try:
            return SheafReader(layout, self._slab_caches, self._cpu_offsets, cpus, self._reader.read).handed_out()
        except Unreadable:
            return None

    @property
    def reads_objects(self) -> Coverage:
        """Whether `read_objects` works on this kernel."""
        refusal = self._reader.refusal()
        if refusal:
            return Coverage(CoverageKind.OBJECT_CONTENTS, None, f"what objects hold is not seen: {refusal}")
        return Coverage(CoverageKind.OBJECT_CONTENTS, "bpf_prog_test_run")

    def _read_losses(self) -> LossCounters:
        """The loss counters, and what programs have missed since they were loaded."""
        counters = self._bpf.per_cpu_totals("counters", len(Counter))
        while True:
            runs = self._bpf.missed_runs()
            before, counters = counters, self._bpf.per_cpu_totals("counters", len(Counter))
            # A run that was missed and made good between the readings would pass for a loss, or hide one.
            if seconds_took(counters) == seconds_took(before):
                return LossCounters(counters, skipped_events(runs, counters))

    def _count_nameless(self) -> int:
        return self._modules.incomplete + sum(nameless.count() for nameless in self._nameless.values())

    def check_loss(self) -> Loss:
        """Read the kernel's loss counters; new losses make a window from the last reading to now."""
        now_ns = time.monotonic_ns()
        lost = self._read_losses().since(self._before)
        if lost.all_skipped > self._lost.all_skipped:
            # A second program may be about to make it good, on a processor that was just taken from it.
            time.sleep(_IN_FLIGHT_S)
            lost = self._read_losses().since(self._before)
        totals = lost.totals
        self.stack_check = StackCheck(
            totals[Counter.UNWOUND_STACKS], totals[Counter.CHECKED_STACKS], totals[Counter.WRONG_STACKS]
        )
        window = lost.window_since(self._lost, self._checked_ns, now_ns)
        if window is not None:
            self._windows.append(window)
        self._lost, self._checked_ns = lost, now_ns
        names = totals[Counter.LOST_NAMES] + totals[Counter.LOST_ENTRIES] + self._count_nameless()
        return Loss(lost.events, totals[Counter.LOST_STACKS], names, tuple(self._windows), lost.causes)

    def close(self) -> None:
        """Detach everything. May be called twice."""
        self._build_ids.stop()
        self._reader.close()
        self._state.close()
        self._bpf.close()
        while self._rings:
            self._rings.pop().close()
        self._waiter.close()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
