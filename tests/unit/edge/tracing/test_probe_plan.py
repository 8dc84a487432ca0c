# SPDX-License-Identifier: GPL-2.0-or-later
"""The probe plan on made-up kernels: what each offers decides, never its version."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from builders import kallsyms

from kleaktrace.core.symbols.symbol_table import parse_kallsyms
from kleaktrace.edge.bpf.compiled_programs import VALUES
from kleaktrace.edge.tracing import probe_plan as module
from kleaktrace.edge.tracing.page_events import PageSpace
from kleaktrace.edge.tracing.probe_plan import EventKind, Plan, make_plan
from kleaktrace.errors import EnvironmentRefusal

ALLOC = ("call_site", "ptr", "bytes_req", "bytes_alloc", "gfp_flags", "node")
CACHE_OFFSETS = {("kmem_cache", "name"): 96, ("kmem_cache", "size"): 24, ("kmem_cache", "object_size"): 28}
LAYOUT_6_4 = {
    ("module", "name"): 24,
    ("module", "kallsyms"): 900,
    ("mod_kallsyms", "symtab"): 0,
    ("mod_kallsyms", "num_symtab"): 8,
    ("mod_kallsyms", "strtab"): 16,
    **{("module", "mem", n, part): 256 + 100 * n + at for n in range(7) for part, at in (("base", 0), ("size", 8))},
}
LAYOUT_6_1 = {
    ("module", "name"): 24,
    ("module", "kallsyms"): 900,
    ("mod_kallsyms", "symtab"): 0,
    ("mod_kallsyms", "num_symtab"): 8,
    ("mod_kallsyms", "strtab"): 16,
    **{
        ("module", layout, part): start + at
        for layout, start in (("core_layout", 300), ("init_layout", 400))
        for part, at in (("base", 0), ("size", 8), ("text_size", 12))
    },
}


@dataclass
class FakeBtf:
    """Answers as edge.bpf.btf.Btf does."""

    events: dict[str, tuple[str, ...]]
    functions: set[str] = field(default_factory=set)
    offsets: dict[tuple[Any, ...], int] = field(default_factory=lambda: dict(CACHE_OFFSETS))
    enumerators: dict[tuple[str, str], int] = field(default_factory=dict)
    named_parameters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    results: dict[str, int] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)

    def parameters(self, function: str) -> tuple[str, ...] | None:
        return self.named_parameters.get(function)

    def result_bytes(self, function: str) -> int | None:
        return self.results.get(function, 4) if function in self.functions else None

    def has_variable(self, name: str) -> bool:
        return name in self.variables

    def size(self, struct: str) -> int | None:
        return self.sizes.get(struct)

    def tracepoint_arguments(self, event: str) -> tuple[str, ...] | None:
        return self.events.get(event)

    def has_function(self, name: str) -> bool:
        return name in self.functions

    def offset(self, *path: str | int) -> int | None:
        return self.offsets.get(path)

    def enumerator(self, enum: str, name: str) -> int | None:
        return self.enumerators.get((enum, name))


def modern() -> FakeBtf:
    """As 6.12 on x86."""
    return FakeBtf(
        events={
            "kmalloc": ALLOC,
            "kmem_cache_alloc": ("call_site", "ptr", "s", "gfp_flags", "node"),
            "kfree": ("call_site", "ptr"),
            "kmem_cache_free": ("call_site", "ptr", "s"),
            "alloc_vmap_area": ("addr", "size", "align", "vstart", "vend", "failed"),
            "free_vmap_area_noflush": ("va_start", "nr_lazy", "nr_lazy_max"),
            "percpu_alloc_percpu": ("call_site", "reserved", "is_atomic", "size", "align", "base_addr", "off", "ptr"),
            "percpu_free_percpu": ("base_addr", "off", "ptr"),
            "module_load": ("mod",),
            "module_free": ("mod",),
            "mm_page_alloc": ("page", "order", "gfp_flags", "migratetype"),
            "mm_page_free": ("page", "order"),
        },
        named_parameters={
            "alloc_pages_bulk_noprof": ("gfp", "preferred_nid", "nodemask", "nr_pages", "page_list", "page_array"),
        },
        sizes={"page": 64},
        functions={
            "alloc_pages_bulk_noprof",
            "allocate_slab",
            "kmem_cache_free_bulk",
            "kmem_cache_alloc_bulk_noprof",
            "__vmalloc_node_range_noprof",
            "vfree",
            "vfree_atomic",
        },
        offsets={**CACHE_OFFSETS, **LAYOUT_6_4, ("pcpu_hot", "preempt_count"): 8},
        enumerators={("mod_mem_type", "MOD_INIT_TEXT"): 4, ("mod_mem_type", "MOD_INIT_DATA"): 5},
    )


def plan(
    btf: FakeBtf,
    hidden: set[str] = frozenset(),  # type: ignore[assignment]
    more: str = "",
    machine: str = "x86_64",
    pages: PageSpace | None = None,
) -> Plan:
    """The plan where kallsyms has every function that BTF has, less the hidden ones."""
    names = [name for name in sorted(btf.functions) if name not in hidden]
    addresses = {name: 0xFFFFFFFF81000000 + 0x100 * n for n, name in enumerate([*names, "_etext"])}
    data = b"ffffffff82000000 D __per_cpu_offset\n0000000000031000 A pcpu_hot\n0000000000032000 A __preempt_count\n"
    table = parse_kallsyms(kallsyms(addresses) + data + more.encode())
    return make_plan(btf, table, machine, pages)  # type: ignore[arg-type]


def event_kind(found: Plan, kind: str) -> EventKind:
    (one,) = [one for one in found.event_kinds if one.kind == kind]
    return one


def sources(found: Plan, kind: str) -> list[str]:
    return [str(source) for source in event_kind(found, kind).sources]


@pytest.fixture(autouse=True)
def modules_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A /proc/modules of our own."""
    listed = tmp_path / "modules"
    listed.touch()
    monkeypatch.setattr(module, "Path", lambda path: listed if path == "/proc/modules" else Path(path))
    return listed


def test_a_modern_kernel_has_a_source_for_everything() -> None:
    found = plan(modern())
    assert {one.kind for one in found.event_kinds if one.sources} == {
        kind_of_event.kind for kind_of_event in found.event_kinds
    }
    assert sources(found, "kmalloc") == ["raw_tracepoint:kmalloc"]
    assert sources(found, "vmalloc")[0] == "fexit:__vmalloc_node_range_noprof"
    assert sources(found, "vfree")[0] == "fentry:vfree+fentry:vfree_atomic"
    assert sources(found, "slab-bulk-free") == ["fentry:kmem_cache_free_bulk", "kprobe:kmem_cache_free_bulk"]
    assert sources(found, "percpu") == ["raw_tracepoint:percpu_alloc_percpu+raw_tracepoint:percpu_free_percpu"]
    assert {one.kind for one in found.event_kinds if one.required} == {
        "kmalloc",
        "slab-cache-alloc",
        "kfree",
        "slab-cache-free",
    }


def test_argument_positions_and_offsets_are_those_of_this_kernel() -> None:
    macros = plan(modern()).macros
    assert (macros["KMALLOC_PTR"], macros["KMALLOC_GFP_FLAGS"]) == (1, 4)
    assert (macros["KMEM_CACHE_ALLOC_S"], macros["PERCPU_ALLOC_PERCPU_PTR"]) == (2, 7)
    assert (macros["CACHE_NAME_OFFSET"], macros["CACHE_SIZE_OFFSET"], macros["CACHE_OBJECT_SIZE_OFFSET"]) == (
        96,
        24,
        28,
    )
    shifted = modern()
    shifted.events["kmalloc"] = ("call_site", "ptr", "s", "bytes_req", "bytes_alloc", "gfp_flags")  # v6.0
    assert plan(shifted).macros["KMALLOC_BYTES_ALLOC"] == 4


def test_vmalloc_is_hooked_by_function_else_by_the_events_of_the_address_space() -> None:
    found = plan(modern())
    assert sources(found, "vmalloc") == [
        "fexit:__vmalloc_node_range_noprof",
        "kprobe:__vmalloc_node_range_noprof+kretprobe:__vmalloc_node_range_noprof",
        "raw_tracepoint:alloc_vmap_area",
    ]
    assert found.macros["VMALLOC_FUNCTION"] == "__vmalloc_node_range_noprof"
    assert [bool(source.note) for source in event_kind(found, "vmalloc").sources] == [False, False, True]
    assert [source.guard_pages for source in event_kind(found, "vmalloc").sources] == [False, False, True]
    assert not any(source.guard_pages for source in event_kind(found, "vfree").sources)
    older = modern()
    older.functions = {"__vmalloc_node_range", "vfree"}
    del older.events["alloc_vmap_area"], older.events["free_vmap_area_noflush"]
    found = plan(older)
    assert found.macros["VMALLOC_FUNCTION"] == "__vmalloc_node_range"
    assert sources(found, "vmalloc")[-1].startswith("kprobe:__vmalloc_node_range+")
    assert sources(found, "vfree") == ["fentry:vfree", "kprobe:vfree"]


@pytest.mark.parametrize(("result", "bits"), [(4, "0xffffffffULL"), (1, "0xffULL")], ids=["number", "truth value"])
def test_of_what_bulk_allocation_returns_only_its_own_bits_count(result: int, bits: str) -> None:
    """Which is a number, and since v7.3 a truth value."""
    found = plan(replace(modern(), results={"kmem_cache_alloc_bulk_noprof": result}))
    assert found.macros["BULK_ALLOC_RESULT"] == bits


def test_what_goes_into_sheaves_is_looked_for_where_the_kernel_has_them() -> None:
    assert not [
        kind_of_event for kind_of_event in plan(modern()).event_kinds if kind_of_event.kind == "slab-sheaf-free"
    ]
    with_sheaves = modern()
    with_sheaves.functions.add("__kfree_rcu_sheaf")
    assert sources(plan(with_sheaves), "slab-sheaf-free") == [
        "fexit:__kfree_rcu_sheaf",
        "kprobe:__kfree_rcu_sheaf+kretprobe:__kfree_rcu_sheaf",
    ]


def test_what_kfree_rcu_frees_is_looked_for_where_the_kernel_frees_it_without_an_event() -> None:
    """mm/slub.c has kvfree_rcu_cb in any case; mm/slab_common.c uses it where it has no kfree_rcu_monitor."""
    silent = modern()
    silent.functions |= {"kvfree_call_rcu", "kvfree_rcu_cb"}
    assert sources(plan(silent), "slab-rcu-free") == ["fentry:kvfree_call_rcu", "kprobe:kvfree_call_rcu"]
    with_batches = modern()
    with_batches.functions |= {*silent.functions, "kfree_rcu_monitor"}
    earlier = modern()
    earlier.functions.add("kvfree_call_rcu")
    for other in (with_batches, earlier):
        assert "slab-rcu-free" not in [kind_of_event.kind for kind_of_event in plan(other).event_kinds]


def test_a_function_that_kallsyms_does_not_have_cannot_be_hooked() -> None:
    found = plan(modern(), hidden={"__vmalloc_node_range_noprof", "vfree", "kmem_cache_free_bulk"})
    assert sources(found, "vmalloc") == ["raw_tracepoint:alloc_vmap_area"]
    assert sources(found, "vfree") == ["raw_tracepoint:free_vmap_area_noflush"]
    assert sources(found, "slab-bulk-free") == []
    assert "BULK_FREE" not in found.macros


def test_a_function_that_btf_does_not_have_cannot_be_hooked() -> None:
    btf = modern()
    symbols = parse_kallsyms(kallsyms(dict.fromkeys(btf.functions, 0xFFFFFFFF81000000)))
    btf.functions = set()
    found = make_plan(btf, symbols, "x86_64")  # type: ignore[arg-type]
    hooked = {probe.how for wanted in found.event_kinds for source in wanted.sources for probe in source.probes}
    assert hooked == {"raw_tracepoint"}


def test_the_c_side_is_told_where_a_hooked_function_lies_and_how_long_it_is() -> None:
    found = plan(modern())
    names = sorted(modern().functions)
    assert found.values["BULK_FREE"] == 0xFFFFFFFF81000000 + 0x100 * names.index("kmem_cache_free_bulk")
    assert found.macros["BULK_FREE_LENGTH"] == 0x100


def test_the_c_side_is_told_where_the_kernels_own_code_lies_if_kallsyms_has_it() -> None:
    found = plan(modern())
    assert "KERNEL_TEXT" not in found.values
    assert "ENTRY_TEXT_LENGTH" not in found.macros
    bounds = {
        "_stext": 0x81000000,
        "__entry_text_start": 0x81000010,
        "__entry_text_end": 0x81001A87,
        "_etext": 0x82209988,
    }
    found = make_plan(modern(), parse_kallsyms(kallsyms(bounds)), "x86_64")  # type: ignore[arg-type]
    assert (found.values["KERNEL_TEXT"], found.macros["KERNEL_TEXT_LENGTH"]) == (0x81000000, 0x1209988)
    assert (found.values["ENTRY_TEXT"], found.macros["ENTRY_TEXT_LENGTH"]) == (0x81000010, 0x1A77)


@pytest.mark.parametrize("what", ["task", "stack"])
def test_how_large_a_stack_is_shows_by_the_first_tasks(what: str) -> None:
    ends = f"ffffffff82000000 D __start_init_{what}\nffffffff82008000 D __end_init_{what}\n"
    assert plan(modern(), more=ends).macros["STACK_SIZE"] == 32768
    assert "STACK_SIZE" not in plan(modern(), more=f"ffffffff82000000 D __start_init_{what}\n").macros


@pytest.mark.parametrize(
    ("code", "bits"),
    [("ffff800080010000", "0xffff800000000000ULL"), ("ffffffc080000000", "0xffffffc000000000ULL")],
)
def test_a_signature_on_arm64_is_in_the_bits_that_all_code_has(code: str, bits: str) -> None:
    found = plan(modern(), more=f"{code} T _stext\n", machine="aarch64")
    assert found.macros["SIGNED_BITS"] == bits == f"{found.signed_bits:#x}ULL"
    assert "SIGNED_BITS" not in plan(modern(), more=f"{code} T _stext\n").macros


def test_no_address_is_compiled_in_since_it_differs_from_boot_to_boot() -> None:
    assert not any("ffffffff8" in str(value) for value in plan(modern()).macros.values())
    assert set(plan(modern()).values) <= set(VALUES)


def test_the_programs_of_a_probe_are_known_before_it_is_attached() -> None:
    loaded = {
        (probe.how, hook.function)
        for wanted in plan(modern()).event_kinds
        for source in wanted.sources
        for probe in source.probes
        for hook in probe.hooks
    }
    assert {
        ("raw_tracepoint", "second_kfree"),
        ("fentry", "kfunc__vfree"),
        ("fentry", "second_vfree"),
        ("fexit", "kretfunc____vmalloc_node_range_noprof"),
        ("kprobe", "on_vfree_entry"),
        ("kretprobe", "on_vmalloc_return"),
    } <= loaded


def test_what_a_source_must_do_without_leaves_the_others() -> None:
    wanted = event_kind(plan(modern()), "vfree")
    possible = wanted.possible(frozenset({"fentry"}))
    assert [str(source) for source in possible] == sources(plan(modern()), "vfree")[1:]


def test_kernels_before_6_1_have_twins_that_must_be_traced_too() -> None:
    old = modern()
    old.events["kmalloc_node"] = ALLOC
    old.events["kmem_cache_alloc_node"] = ("call_site", "ptr", "s", "gfp_flags", "node")
    found = plan(old)
    assert sources(found, "kmalloc") == ["raw_tracepoint:kmalloc+raw_tracepoint:kmalloc_node"]
    assert sources(found, "slab-cache-alloc") == [
        "raw_tracepoint:kmem_cache_alloc+raw_tracepoint:kmem_cache_alloc_node"
    ]


@pytest.mark.parametrize(
    ("event", "arguments"),
    [("kfree", None), ("kfree", ("call_site",)), ("kmalloc", ("call_site", "ptr")), ("kmem_cache_alloc", ALLOC[:2])],
)
def test_an_event_without_the_arguments_we_need_is_no_source(event: str, arguments: tuple[str, ...] | None) -> None:
    btf = modern()
    del btf.events[event]
    if arguments is not None:
        btf.events[event] = arguments
    kind = {"kfree": "kfree", "kmalloc": "kmalloc", "kmem_cache_alloc": "slab-cache-alloc"}[event]
    found = event_kind(plan(btf), kind)
    assert found.sources == ()
    assert found.required


@pytest.mark.parametrize("event", ["percpu_alloc_percpu", "percpu_free_percpu"])
def test_per_cpu_memory_is_traced_both_ways_or_not_at_all(event: str) -> None:
    btf = modern()
    del btf.events[event]
    assert sources(plan(btf), "percpu") == []


def test_arguments_of_programs_are_read_where_the_kernel_shows_all_that_it_takes() -> None:
    btf = modern()
    btf.offsets |= {("task_struct", "mm"): 8, ("mm_struct", "arg_start"): 16}
    assert "TASK_MM" not in plan(btf).macros
    btf.offsets["mm_struct", "arg_end"] = 24
    macros = plan(btf).macros
    assert (macros["TASK_MM"], macros["MM_ARG_START"], macros["MM_ARG_END"]) == (8, 16, 24)


def test_whether_a_cache_is_reclaimable_is_read_where_the_kernel_shows_it() -> None:
    btf = modern()
    assert "CACHE_ALLOCFLAGS_OFFSET" not in plan(btf).macros
    btf.offsets["kmem_cache", "allocflags"] = 64
    assert plan(btf).macros["CACHE_ALLOCFLAGS_OFFSET"] == 64


@pytest.mark.parametrize("missing", ["name", "size", "object_size"])
def test_without_the_layout_of_slab_caches_there_is_no_plan(missing: str) -> None:
    btf = modern()
    del btf.offsets["kmem_cache", missing]
    with pytest.raises(EnvironmentRefusal, match=rf"kmem_cache\.{missing}"):
        plan(btf)


def test_modules_are_found_by_either_layout_of_their_memory() -> None:
    macros = plan(modern()).macros
    assert (macros["MODULE_TEXT_BASE"], macros["MODULE_INIT_TEXT_BASE"], macros["MODULE_INIT_DATA_SIZE"]) == (
        256,
        656,
        764,
    )
    old = modern()
    old.enumerators = {}
    old.offsets = {**CACHE_OFFSETS, **LAYOUT_6_1}
    macros = plan(old).macros
    assert (macros["MODULE_TEXT_BASE"], macros["MODULE_TEXT_SIZE"], macros["MODULE_INIT_DATA_SIZE"]) == (300, 312, 408)


@pytest.mark.parametrize("path", [("module", "name"), ("mod_kallsyms", "strtab"), ("module", "mem", 4, "size")])
def test_modules_are_not_followed_on_half_a_layout(path: tuple[Any, ...]) -> None:
    btf = modern()
    del btf.offsets[path]
    found = plan(btf)
    assert sources(found, "modules") == []
    assert not [name for name in found.macros if name.startswith(("MODULE_TEXT", "KALLSYMS"))]


def test_a_kernel_without_modules_says_so(modules_allowed: Path) -> None:
    modules_allowed.unlink()
    (source,) = event_kind(plan(modern()), "modules").sources
    assert (str(source), source.note) == ("none needed", "this kernel has no loadable modules")


def test_the_context_comes_from_the_task_else_from_the_cpu_else_from_the_stack() -> None:
    btf = modern()
    assert plan(btf).context_source == "per-CPU pcpu_hot"
    assert plan(btf).values["PREEMPT_COUNT_PER_CPU"] == 0x31008
    del btf.offsets["pcpu_hot", "preempt_count"]
    assert plan(btf).context_source == "per-CPU __preempt_count"
    assert plan(btf).values["PREEMPT_COUNT_PER_CPU"] == 0x32000
    btf.offsets["task_struct", "thread_info", "preempt_count"] = 16
    found = plan(btf)
    assert found.context_source == "task_struct.thread_info.preempt_count"
    assert found.macros["PREEMPT_COUNT_IN_TASK"] == 16
    assert "PREEMPT_COUNT_PER_CPU" not in found.values
    bare = make_plan(modern(), parse_kallsyms(b""), "x86_64")  # type: ignore[arg-type]
    assert bare.context_source == "frames of the stack"


def test_where_interrupts_are_counted_goes_by_what_else_the_kernel_counts_there() -> None:
    """include/linux/preempt.h, HARDIRQ_DISABLE_MASK."""
    disabled = "local_interrupt_disable_state"
    assert plan(modern()).macros["HARDIRQ_SHIFT"] == 16
    assert plan(replace(modern(), variables={disabled})).macros["HARDIRQ_SHIFT"] == 24
    assert plan(modern(), more=f"ffffffff825e9218 D {disabled}\n").macros["HARDIRQ_SHIFT"] == 24


def test_attaching_a_probe_asks_bpf_for_the_hook_it_is_named_after() -> None:
    asked: list[tuple[str, ...]] = []

    class Recorder:
        def __getattr__(self, method: str) -> Any:
            return lambda *arguments: asked.append((method, *arguments))

    for wanted in plan(modern()).event_kinds:
        for source in wanted.sources:
            for probe in source.probes:
                probe.attach(Recorder())  # type: ignore[arg-type]
                assert asked[-1][:2] == (f"attach_{probe.how}", probe.target)
    assert ("attach_raw_tracepoint", "kfree", "first_kfree", "second_kfree") in asked
    assert ("attach_fentry", "vfree", True) in asked
    assert ("attach_kprobe", "vfree", "on_vfree_entry") in asked


SPACE = PageSpace(1 << 20, 4 << 30)


def test_pages_are_traced_when_asked_for_only() -> None:
    without = plan(modern())
    assert {"pages", "pages-bulk"}.isdisjoint(str(one.kind) for one in without.event_kinds)
    assert "TRACE_PAGES" not in without.macros
    found = plan(modern(), pages=SPACE)
    assert sources(found, "pages") == ["raw_tracepoint:mm_page_alloc+raw_tracepoint:mm_page_free"]
    assert sources(found, "pages-bulk")[0] == "fexit:alloc_pages_bulk_noprof"
    assert (found.macros["TRACE_PAGES"], found.macros["BULK_PAGES_ARRAY"]) == (1, 5)
    assert found.macros["BULK_PAGES_ARRAY_PARAMETER"] == 6
    assert found.values["PAGE_NUMBERS"] == 1 << 20
    assert found.map_sizes == {"page_marks": 256}


@pytest.mark.parametrize(
    ("change", "space", "words"),
    [
        ({"sizes": {"page": 80}}, SPACE, "struct page has 80 bytes"),
        ({}, PageSpace(1 << 40, 4 << 30), "too far apart"),
        ({"events": {name: at for name, at in modern().events.items() if "page" not in name}}, SPACE, "no such trace"),
    ],
)
def test_where_pages_cannot_be_traced_it_is_said(change: dict[str, Any], space: PageSpace, words: str) -> None:
    found = plan(replace(modern(), **change), pages=space)
    assert words in event_kind(found, "pages").if_missing
    assert not sources(found, "pages")
    assert "pages-bulk" not in [str(one.kind) for one in found.event_kinds]


def test_cgroups_are_asked_for_only_where_the_kernel_has_them() -> None:
    assert "CGROUPS" not in plan(modern()).macros
    assert plan(modern(), more="ffffffff81900000 T bpf_get_current_cgroup_id\n").macros["CGROUPS"] == 1
