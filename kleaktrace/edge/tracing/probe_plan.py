# SPDX-License-Identifier: GPL-2.0-or-later
"""Which source to use for each kind of event on this kernel: what it offers, best first.

Nothing here asks for the kernel's version. A tracepoint is there if BTF knows it, an argument has the position that
BTF gives it, and whether a probe is allowed shows when it is attached.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kleaktrace.core.events.coverage import CoverageKind
from kleaktrace.core.symbols.symbol_table import SymbolTable
from kleaktrace.edge.bpf.bpf_object import BpfObject, Hook
from kleaktrace.edge.bpf.btf import Btf
from kleaktrace.edge.tracing.abi import DESCRIPTOR_BYTES
from kleaktrace.edge.tracing.page_events import PAGE_ROLES, PageSpace
from kleaktrace.errors import EnvironmentRefusal

_WORD = (1 << 64) - 1

Macros = dict[str, str | int]


@dataclass(frozen=True)
class Probe:
    """One program at one place: `how` is the kernel's way of hooking, `target` an event or a function."""

    how: str
    target: str
    attach: Callable[[BpfObject], None] = field(compare=False, repr=False)
    hooks: tuple[Hook, ...] = field(compare=False, repr=False)
    """The programs that it loads."""

    def __str__(self) -> str:
        return f"{self.how}:{self.target}"


@dataclass(frozen=True)
class ProbeSet:
    """Probes that together report one kind of event; all must attach. guard_pages: see `Coverage`."""

    probes: tuple[Probe, ...]
    note: str = ""
    guard_pages: bool = False

    def __str__(self) -> str:
        return "+".join(str(probe) for probe in self.probes) or "none needed"


@dataclass(frozen=True)
class EventKind:
    """A kind of event, with the sources this kernel may have for it, best first.

    `if_missing` says what that means when none works. A `required` kind without a source makes tracing pointless.
    """

    kind: CoverageKind
    sources: tuple[ProbeSet, ...]
    if_missing: str
    required: bool = False

    def possible(self, left_out: frozenset[str]) -> list[ProbeSet]:
        """The sources that do without some ways of hooking."""
        return [source for source in self.sources if not any(probe.how in left_out for probe in source.probes)]


@dataclass(frozen=True)
class Plan:
    """What to attach, and the macros and values (edge/bpf/compiled_programs.py) that the C sources need for it.

    All that is an address is a value, for it is another one after each boot.
    """

    event_kinds: tuple[EventKind, ...]
    macros: Macros
    values: Mapping[str, int]
    context_source: str
    signed_bits: int
    """Of code's addresses: where one lies on a stack there may be a signature in these."""
    map_sizes: Mapping[str, int] = field(default_factory=dict)
    """Elements of maps that depend on the machine."""


def _recorded_once(event: str) -> tuple[str, ...]:
    """The two programs of RECORD_ONCE in bpf/slab.c, in their order."""
    return f"first_{event}", f"second_{event}"


# Raw tracepoints: the event, the arguments we use, and the C functions to run.
_EVENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "kmalloc": (("call_site", "ptr", "bytes_req", "bytes_alloc", "gfp_flags"), _recorded_once("kmalloc")),
    "kmalloc_node": (("call_site", "ptr", "bytes_req", "bytes_alloc", "gfp_flags"), _recorded_once("kmalloc_node")),
    "kmem_cache_alloc": (("call_site", "ptr", "s", "gfp_flags"), _recorded_once("kmem_cache_alloc")),
    "kmem_cache_alloc_node": (("call_site", "ptr", "s", "gfp_flags"), _recorded_once("kmem_cache_alloc_node")),
    "kfree": (("call_site", "ptr"), _recorded_once("kfree")),
    "kmem_cache_free": (("call_site", "ptr"), _recorded_once("kmem_cache_free")),
    "alloc_vmap_area": (("addr", "size", "failed"), ("on_alloc_vmap_area",)),
    "free_vmap_area_noflush": (("va_start",), ("on_free_vmap_area_noflush",)),
    "percpu_alloc_percpu": (("size", "ptr"), ("on_percpu_alloc",)),
    "percpu_free_percpu": (("ptr",), ("on_percpu_free",)),
    "mm_page_alloc": (("page", "order", "gfp_flags"), _recorded_once("mm_page_alloc")),
    "mm_page_free": (("page", "order"), _recorded_once("mm_page_free")),
    "module_load": (("mod",), ("on_module_load",)),
    "module_free": (("mod",), ("on_module_free",)),
}

# The _noprof names since v6.10 (commit 7bd230a26648).
_BULK_ALLOC_FUNCTIONS = ("kmem_cache_alloc_bulk_noprof", "kmem_cache_alloc_bulk")
_BULK_PAGES_FUNCTIONS = ("alloc_pages_bulk_noprof", "__alloc_pages_bulk")
_VMALLOC_FUNCTIONS = ("__vmalloc_node_range_noprof", "__vmalloc_node_range")


class _Planner:
    """Collects kinds of events and macros from what BTF and kallsyms say."""

    def __init__(self, btf: Btf, symbols: SymbolTable, machine: str) -> None:
        self._btf = btf
        self._symbols = symbols
        self._machine = machine
        self.macros: Macros = {"PAGE_BYTES": os.sysconf("SC_PAGE_SIZE")}
        self.values: dict[str, int] = {}
        self.signed_bits = 0
        self.map_sizes: dict[str, int] = {}
        if symbols.address_of("kmemleak_alloc") is not None:
            self.macros["KMEMLEAK"] = 1
        if symbols.address_of("bpf_get_current_cgroup_id") is not None:  # not without CONFIG_CGROUPS
            self.macros["CGROUPS"] = 1

    def event(self, name: str) -> Probe | None:
        """A raw tracepoint of ours, if this kernel has it with the arguments we need."""
        wanted, functions = _EVENTS[name]
        arguments = self._btf.tracepoint_arguments(name)
        if arguments is None or not set(wanted) <= set(arguments):
            return None
        for position, argument in enumerate(arguments):
            self.macros[f"{name}_{argument}".upper()] = position
        hooks = tuple(map(Hook.raw_tracepoint, functions))
        return Probe("raw_tracepoint", name, lambda bpf: bpf.attach_raw_tracepoint(name, *functions), hooks)

    def events(self, *names: str) -> tuple[ProbeSet, ...]:
        """One source out of several tracepoints, or none if one of them is missing."""
        probes = tuple(self.event(name) for name in names)
        found = tuple(probe for probe in probes if probe is not None)
        return (ProbeSet(found),) if len(found) == len(probes) else ()

    def function(self, name: str, value: str) -> bool:
        """Whether the kernel has this function; tells the C side where it lies."""
        address = self._symbols.address_of(name)
        if address is None or not self._btf.has_function(name):
            return False
        frame = self._symbols.find(address)
        self.values[value] = address
        self.macros[f"{value}_LENGTH"] = frame.size if frame else 0
        return True

    def text(self) -> None:
        """Where the kernel's own code lies, and in it the code that enters the kernel (vmlinux.lds.S)."""
        for value, start, end in (
            ("KERNEL_TEXT", "_stext", "_etext"),
            ("ENTRY_TEXT", "__entry_text_start", "__entry_text_end"),
        ):
            first, last = self._symbols.address_of(start), self._symbols.address_of(end)
            if first is not None and last is not None:
                self.values[value] = first
                self.macros[f"{value}_LENGTH"] = last - first

    def stacks(self) -> None:
        """How large a stack is, and what of a return address on it may be a signature.

        The first task's stack lies in the kernel itself (vmlinux.lds.h, INIT_TASK_DATA). arm64 signs return addresses
        where the processor can, in bits that are set in every address of code; an unwinder removes the signature
        (arch/arm64/include/asm/pointer_auth.h, ptrauth_strip_kernel_insn_pac).
        """
        for start, end in (("__start_init_stack", "__end_init_stack"), ("__start_init_task", "__end_init_task")):
            first, last = self._symbols.address_of(start), self._symbols.address_of(end)
            if first is not None and last is not None:
                self.macros["STACK_SIZE"] = last - first
        code = self._symbols.address_of("_stext")
        if self._machine == "aarch64":
            # Of a function's frame, what is saved for its caller lies lowest there, below our context in bpf_trace_run.
            self.macros["TRACING_FRAMES"] = 4
        if code is not None and self._machine == "aarch64":
            varying = (~code & _WORD).bit_length()
            self.signed_bits = _WORD >> varying << varying
            self.macros["SIGNED_BITS"] = f"{self.signed_bits:#x}ULL"

    def slab(self) -> list[EventKind]:
        """Slab allocations and frees; on kernels before v6.1 the _node twins are events of their own."""
        for field_name, macro in (
            ("name", "CACHE_NAME_OFFSET"),
            ("size", "CACHE_SIZE_OFFSET"),
            ("object_size", "CACHE_OBJECT_SIZE_OFFSET"),
        ):
            offset = self._btf.offset("kmem_cache", field_name)
            if offset is None:
                raise EnvironmentRefusal(
                    f"BTF does not show kmem_cache.{field_name}", "report this kernel's configuration to kleaktrace"
                )
            self.macros[macro] = offset
        flags = self._btf.offset("kmem_cache", "allocflags")
        if flags is not None:
            self.macros["CACHE_ALLOCFLAGS_OFFSET"] = flags
        kinds = []
        for kind, name, twin in (
            (CoverageKind.KMALLOC, "kmalloc", "kmalloc_node"),
            (CoverageKind.SLAB_CACHE_ALLOC, "kmem_cache_alloc", "kmem_cache_alloc_node"),
        ):
            names = [name]
            if self._btf.tracepoint_arguments(twin) is not None:
                names.append(twin)
            kinds.append(EventKind(kind, self.events(*names), "these allocations are not seen", required=True))
        kinds.append(EventKind(CoverageKind.KFREE, self.events("kfree"), "these frees are not seen", required=True))
        kinds.append(
            EventKind(
                CoverageKind.SLAB_CACHE_FREE, self.events("kmem_cache_free"), "these frees are not seen", required=True
            )
        )
        return kinds

    def bulk_alloc(self) -> EventKind:
        """Arrays of objects handed out without an event."""
        sources: tuple[ProbeSet, ...] = ()
        for name in _BULK_ALLOC_FUNCTIONS:
            result = self._btf.result_bytes(name)
            if result is not None and self._symbols.address_of(name) is not None:
                self.macros["BULK_ALLOC_FUNCTION"] = name
                self.macros["BULK_ALLOC_RESULT"] = f"{(1 << 8 * result) - 1:#x}ULL"
                by_kprobe = (_kprobe(name, "on_bulk_alloc_entry"), _kretprobe(name, "on_bulk_alloc_return"))
                sources = (ProbeSet((_fexit(name),)), ProbeSet(by_kprobe))
                break
        return EventKind(
            CoverageKind.SLAB_BULK_ALLOC,
            sources,
            "objects that kmem_cache_alloc_bulk hands out are not seen: leaks of such stay undecided",
        )

    def bulk_free(self) -> EventKind:
        """Arrays freed without an event, kfree_rcu batches among them."""
        name = "kmem_cache_free_bulk"
        sources: tuple[ProbeSet, ...] = ()
        if self.function(name, "BULK_FREE"):
            sources = (
                ProbeSet((_fentry(name, once=True),)),
                ProbeSet((_kprobe(name, f"on_{name}"),)),
            )
        return EventKind(
            CoverageKind.SLAB_BULK_FREE,
            sources,
            "kfree_bulk and kfree_rcu batches stay outstanding until the memory is reused: what they may have freed "
            "stays undecided",
        )

    def sheaf_free(self) -> list[EventKind]:
        """What kfree_rcu puts into sheaves (mm/slub.c, since v6.18), to be freed or used again without an event."""
        name = "__kfree_rcu_sheaf"
        if not self.function(name, "SHEAF_FREE"):
            return []
        by_kprobe = (_kprobe(name, "on_sheaf_free_entry"), _kretprobe(name, "on_sheaf_free_return"))
        return [
            EventKind(
                CoverageKind.SLAB_SHEAF_FREE,
                (ProbeSet((_fexit(name, once=True),)), ProbeSet(by_kprobe)),
                "what kfree_rcu puts into sheaves stays outstanding until the memory is reused: what it may have freed "
                "stays undecided",
            )
        ]

    def rcu_free(self) -> list[EventKind]:
        """kfree_rcu where the kernel makes no batches: freed without an event (mm/slub.c, kvfree_rcu_cb)."""
        name = "kvfree_call_rcu"
        batches = self._symbols.address_of("kfree_rcu_monitor") is not None
        silent = self._symbols.address_of("kvfree_rcu_cb") is not None
        if batches or not silent or not self.function(name, "RCU_FREE"):
            return []
        return [
            EventKind(
                CoverageKind.SLAB_RCU_FREE,
                (ProbeSet((_fentry(name, once=True),)), ProbeSet((_kprobe(name, f"on_{name}"),))),
                "what kfree_rcu frees stays outstanding until the memory is reused: what it may have freed stays "
                "undecided",
            )
        ]

    def vmalloc(self) -> list[EventKind]:
        """The functions where they can be hooked, else the events of the address space."""
        alloc: list[ProbeSet] = []
        free: list[ProbeSet] = []
        for name in _VMALLOC_FUNCTIONS:
            if self._btf.has_function(name) and self._symbols.address_of(name) is not None:
                self.macros["VMALLOC_FUNCTION"] = name
                alloc.append(ProbeSet((_fexit(name),)))
                alloc.append(
                    ProbeSet((_kprobe(name, "on_vmalloc_entry"), _kretprobe(name, "on_vmalloc_return"))),
                )
                break
        if self.function("vfree", "VFREE"):
            names = ["vfree", *(["vfree_atomic"] if self.function("vfree_atomic", "VFREE_ATOMIC") else [])]
            free.append(ProbeSet(tuple(_fentry(name, once=True) for name in names)))
            free.append(ProbeSet(tuple(_kprobe(name, f"on_{name}_entry") for name in names)))
        note = "also sees vmap, ioremap and module areas; sizes include the guard page"
        alloc += [ProbeSet(source.probes, note, guard_pages=True) for source in self.events("alloc_vmap_area")]
        free += [ProbeSet(source.probes, note) for source in self.events("free_vmap_area_noflush")]
        return [
            EventKind(
                CoverageKind.VMALLOC, tuple(alloc), "vmalloc allocations are not seen: leaks of such stay undecided"
            ),
            EventKind(
                CoverageKind.VFREE, tuple(free), "vmalloc frees are not seen: what they may have freed stays undecided"
            ),
        ]

    def free_areas(self) -> None:
        """Where the tree of the free ranges of vmalloc's addresses is, if this kernel tells."""
        root = self._symbols.address_of("free_vmap_area_root")
        members = [("vmap_area", name) for name in ("va_start", "va_end", "rb_node")]
        members += [("rb_node", name) for name in ("rb_left", "rb_right")]
        offsets = {f"{struct}_{name}".upper(): self._btf.offset(struct, name) for struct, name in members}
        found = {macro: offset for macro, offset in offsets.items() if offset is not None}
        if root is not None and len(found) == len(members):
            self.macros |= found
            self.values["FREE_AREAS"] = root

    def programs(self) -> None:
        """Where a task has the arguments of its program."""
        places = {
            "TASK_MM": self._btf.offset("task_struct", "mm"),
            "MM_ARG_START": self._btf.offset("mm_struct", "arg_start"),
            "MM_ARG_END": self._btf.offset("mm_struct", "arg_end"),
        }
        found = {macro: offset for macro, offset in places.items() if offset is not None}
        if len(found) == len(places):
            self.macros |= found

    def percpu(self) -> EventKind:
        """Per-CPU memory, both directions or none."""
        return EventKind(
            CoverageKind.PERCPU,
            self.events("percpu_alloc_percpu", "percpu_free_percpu"),
            "per-CPU allocations are not seen: leaks of such stay undecided",
        )

    def pages(self, space: PageSpace) -> list[EventKind]:
        """Pages that somebody asked the page allocator for (bpf/pages.c)."""
        self.macros["TRACE_PAGES"] = 1
        self.macros["PAGE_ROLES"] = PAGE_ROLES
        self.values["PAGE_NUMBERS"] = space.numbers
        self.map_sizes |= space.map_sizes
        size = self._btf.size("page")
        sources: tuple[ProbeSet, ...] = ()
        without = "pages that drivers take from the page allocator are not seen: "
        if size != DESCRIPTOR_BYTES:
            without += f"this kernel's struct page has {size} bytes, which nobody has tried yet"
        elif space.too_wide:
            without += "this machine's memory lies too far apart"
        else:
            without += "this kernel has no such tracepoints"
            sources = self.events("mm_page_alloc", "mm_page_free")
        seen = "what slab, vmalloc, the page cache and user space take is left out"
        events = EventKind(CoverageKind.PAGES, tuple(ProbeSet(source.probes, seen) for source in sources), without)
        return [events, self.bulk_pages()] if sources else [events]

    def bulk_pages(self) -> EventKind:
        """Arrays of pages handed out without an event."""
        sources: tuple[ProbeSet, ...] = ()
        for name in _BULK_PAGES_FUNCTIONS:
            parameters = self._btf.parameters(name)
            if parameters and "page_array" in parameters and self._symbols.address_of(name) is not None:
                array = parameters.index("page_array")
                self.macros |= {
                    "BULK_PAGES_FUNCTION": name,
                    "BULK_PAGES_GFP": parameters.index("gfp") if "gfp" in parameters else 0,
                    "BULK_PAGES_ARRAY": array,
                    "BULK_PAGES_ARRAY_PARAMETER": array + 1,
                }
                by_kprobe = (_kprobe(name, "on_bulk_pages_entry"), _kretprobe(name, "on_bulk_pages_return"))
                sources = (ProbeSet((_fexit(name),)), ProbeSet(by_kprobe))
                break
        return EventKind(
            CoverageKind.PAGES_BULK,
            sources,
            "pages that alloc_pages_bulk hands out are not seen, nor are leaks of them (page_pool takes its pages so)",
        )

    def modules(self) -> EventKind:
        """Modules coming and going, for names and for the unload rule."""
        without = "modules that come or go meanwhile are not noticed: what they leave behind is not judged"
        if not Path("/proc/modules").exists():
            nothing_to_see = ProbeSet((), "this kernel has no loadable modules")
            return EventKind(CoverageKind.MODULES, (nothing_to_see,), without)
        places = self._module_places()
        if places is None:
            return EventKind(CoverageKind.MODULES, (), without)
        self.macros.update(places)
        return EventKind(CoverageKind.MODULES, self.events("module_load", "module_free"), without)

    def _module_places(self) -> Macros | None:
        """Where struct module keeps text and symbols: `mem[]` since v6.4 (commit ac3b43283923), else two layouts."""
        btf = self._btf
        init_text = btf.enumerator("mod_mem_type", "MOD_INIT_TEXT")
        init_data = btf.enumerator("mod_mem_type", "MOD_INIT_DATA")
        paths: dict[str, tuple[str | int, ...]]
        if init_text is not None and init_data is not None:
            paths = {
                "MODULE_TEXT_BASE": ("mem", 0, "base"),
                "MODULE_TEXT_SIZE": ("mem", 0, "size"),
                "MODULE_INIT_TEXT_BASE": ("mem", init_text, "base"),
                "MODULE_INIT_TEXT_SIZE": ("mem", init_text, "size"),
                "MODULE_INIT_DATA_BASE": ("mem", init_data, "base"),
                "MODULE_INIT_DATA_SIZE": ("mem", init_data, "size"),
            }
        else:
            paths = {
                "MODULE_TEXT_BASE": ("core_layout", "base"),
                "MODULE_TEXT_SIZE": ("core_layout", "text_size"),
                "MODULE_INIT_TEXT_BASE": ("init_layout", "base"),
                "MODULE_INIT_TEXT_SIZE": ("init_layout", "text_size"),
                "MODULE_INIT_DATA_BASE": ("init_layout", "base"),
                "MODULE_INIT_DATA_SIZE": ("init_layout", "size"),
            }
        paths |= {"MODULE_NAME_OFFSET": ("name",), "MODULE_KALLSYMS": ("kallsyms",)}
        offsets = {macro: btf.offset("module", *path) for macro, path in paths.items()}
        for member in ("symtab", "strtab", "num_symtab"):
            offsets[f"KALLSYMS_{member}".upper()] = btf.offset("mod_kallsyms", member)
        found = {macro: offset for macro, offset in offsets.items() if offset is not None}
        return dict(found) if len(found) == len(offsets) else None

    def context(self) -> str:
        """How to learn whether an interrupt allocates: preempt_count, per CPU (x86) or in the task (arm64, …)."""
        # In v7.3 bits of it count how often interrupts were disabled, in front of those that count interrupts.
        disabled = "local_interrupt_disable_state"
        counted = self._symbols.address_of(disabled) is not None or self._btf.has_variable(disabled)
        self.macros["HARDIRQ_SHIFT"] = 24 if counted else 16
        in_task = self._btf.offset("task_struct", "thread_info", "preempt_count")
        if in_task is not None:
            self.macros["PREEMPT_COUNT_IN_TASK"] = in_task
            return "task_struct.thread_info.preempt_count"
        offsets = self._symbols.address_of("__per_cpu_offset")
        for symbol, inside in (
            ("pcpu_hot", self._btf.offset("pcpu_hot", "preempt_count")),
            ("__preempt_count", 0),
        ):
            address = self._symbols.address_of(symbol)
            if offsets is not None and address is not None and inside is not None:
                self.values["PER_CPU_OFFSET"] = offsets
                self.values["PREEMPT_COUNT_PER_CPU"] = address + inside
                return f"per-CPU {symbol}"
        return "frames of the stack"


def _fentry(name: str, once: bool = False) -> Probe:
    """`once`: by two programs (RECORD_FREE_ONCE in bpf/slab.c)."""
    hook = Hook.fentry(name)
    return Probe("fentry", name, lambda bpf: bpf.attach_fentry(name, once), hook.both() if once else (hook,))


def _fexit(name: str, once: bool = False) -> Probe:
    hook = Hook.fexit(name)
    return Probe("fexit", name, lambda bpf: bpf.attach_fexit(name, once), hook.both() if once else (hook,))


def _kprobe(name: str, function: str) -> Probe:
    return Probe("kprobe", name, lambda bpf: bpf.attach_kprobe(name, function), (Hook.kprobe(function),))


def _kretprobe(name: str, function: str) -> Probe:
    return Probe("kretprobe", name, lambda bpf: bpf.attach_kretprobe(name, function), (Hook.kprobe(function),))


def make_plan(btf: Btf, symbols: SymbolTable, machine: str, pages: PageSpace | None = None) -> Plan:
    """The plan for this kernel, and `machine` as uname has it. pages: they are to be traced, too.

    Raises `EnvironmentRefusal` when slab events can't be read at all.
    """
    planner = _Planner(btf, symbols, machine)
    kinds = [*planner.slab(), planner.bulk_alloc(), planner.bulk_free(), *planner.sheaf_free(), *planner.rcu_free()]
    kinds += [*planner.vmalloc(), planner.percpu(), planner.modules()]
    if pages is not None:
        kinds += planner.pages(pages)
    planner.free_areas()
    planner.programs()
    planner.text()
    planner.stacks()
    context_source = planner.context()
    return Plan(
        tuple(kinds),
        planner.macros,
        planner.values,
        context_source,
        planner.signed_bits,
        planner.map_sizes,
    )
