# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks: what is cut off their inner end, who asked for the memory, and what the CPU was doing."""

from __future__ import annotations

import numpy as np
import pytest
from builders import DRIVER, KERNEL_TEXT, inside, kallsyms, kernel_names, module_image
from frame_words import frames, words
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.records import Context
from kleaktrace.core.symbols import call_stacks as module
from kleaktrace.core.symbols.call_stacks import (
    NO_STACK,
    Stack,
    Stacks,
    context_from,
    function_of,
    module_line,
    module_of,
    requester_function,
    requester_line,
    requester_words,
    trim,
)
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.core.symbols.symbol_table import parse_kallsyms


@pytest.mark.parametrize(
    ("stack", "trimmed"),
    [
        ("drv_probe[drv] do_one_initcall", "drv_probe[drv] do_one_initcall"),
        ("__kmalloc_noprof drv_probe[drv]", "drv_probe[drv]"),
        ("__kmalloc_cache_noprof kvmalloc_node_noprof drv_probe[drv]", "drv_probe[drv]"),
        ("kmem_cache_alloc_lru_noprof.isra.0 new_inode", "new_inode"),
        ("bpf_prog_1234_first_kmalloc[bpf] bpf_trace_run5 __kmalloc_noprof drv_probe[drv]", "drv_probe[drv]"),
        ("? bpf_trampoline_6442 __vmalloc_node_range_noprof vmalloc_noprof drv_probe[drv]", "drv_probe[drv]"),
        ("anything_of_ours[bpf] __kmalloc_noprof drv_probe[drv]", "drv_probe[drv]"),
        ("arch_rethook_trampoline vzalloc_noprof drv_probe[drv]", "drv_probe[drv]"),
        ("___slab_alloc __slab_alloc.constprop.0 kmem_cache_alloc_noprof getname_flags", "getname_flags"),
        ("pcpu_alloc_noprof __alloc_percpu_gfp drv_probe[drv]", "drv_probe[drv]"),
        ("devm_kmalloc drv_probe[drv]", "devm_kmalloc drv_probe[drv]"),
        ("drv_probe[drv] __kmalloc_noprof caller", "drv_probe[drv] __kmalloc_noprof caller"),
    ],
)
def test_frames_of_the_tracer_and_the_allocator_are_cut_off_the_inner_end(stack: str, trimmed: str) -> None:
    assert words(trim(frames(stack))) == trimmed


@pytest.mark.parametrize(
    ("stack", "trimmed"),
    [
        ("__kmalloc_noprof ? do_one_initcall", "? do_one_initcall"),
        ("__kmalloc_noprof ? ?", "? ?"),
        ("? drv_probe[drv]", "? drv_probe[drv]"),
        ("? __kmalloc_noprof ? drv_probe[drv]", "? drv_probe[drv]"),
    ],
)
def test_a_caller_without_a_name_is_kept(stack: str, trimmed: str) -> None:
    """It may be the very code that leaks: a module whose symbols did not reach us."""
    assert words(trim(frames(stack))) == trimmed


words_of_stacks = st.sampled_from(
    ["?", "__kmalloc_noprof", "vmalloc_noprof", "bpf_prog_1_x[bpf]", "bpf_trace_run5", "drv_probe[drv]", "kthread"]
)


@given(st.lists(words_of_stacks, max_size=8))
def test_a_stack_keeps_its_outer_end_and_is_never_cut_to_nothing(stack: list[str]) -> None:
    whole = frames(" ".join(stack))
    kept = trim(whole)
    assert whole[len(whole) - len(kept) :] == kept
    assert bool(kept) is bool(whole)
    assert all(frame in kept for frame in whole if frame.name in ("drv_probe", "kthread"))


def test_a_stack_of_nothing_but_allocators_is_kept_whole() -> None:
    assert words(trim(frames("__kmalloc_noprof vmalloc_noprof"))) == "__kmalloc_noprof vmalloc_noprof"


@pytest.mark.parametrize(
    ("stack", "owner"),
    [
        ("drv_probe[drv] do_one_initcall", "drv_probe[drv]"),
        ("__kmalloc_noprof drv_probe[drv]", "drv_probe[drv]"),
        ("core_alloc drv_probe[drv]", "core_alloc"),
        ("__kmalloc_noprof ? drv_probe[drv]", "?"),
    ],
)
def test_the_owner_is_the_innermost_that_is_no_allocator(stack: str, owner: str) -> None:
    found = Stack(frames(stack), Context.TASK).owner
    assert found is not None
    assert words((found,)) == owner


def test_without_a_caller_there_is_no_owner() -> None:
    assert Stack(frames("__kmalloc_noprof"), Context.TASK).owner is None
    assert NO_STACK.owner is None
    assert NO_STACK.lines() == []


def test_modules_are_those_passed_through_less_our_own_programs() -> None:
    stack = Stack(frames("bpf_prog_1_x[bpf] drv_probe[drv] core_alloc ext4_get[ext4] ?"), Context.TASK)
    assert stack.modules == {"drv", "ext4"}


X86_TIMER = "__sysvec_apic_timer_interrupt sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt"


@pytest.mark.parametrize(
    ("stack", "context"),
    [
        ("drv_probe[drv] do_one_initcall do_syscall_64 entry_SYSCALL_64_after_hwframe", Context.TASK),
        ("", Context.TASK),
        ("drv_work[drv] process_one_work worker_thread kthread ret_from_fork", Context.TASK),
        # a hardirq, on its own and on top of a softirq
        (f"drv_timer[drv] hrtimer_interrupt {X86_TIMER} do_syscall_64", Context.HARDIRQ),
        ("drv_irq[drv] __handle_irq_event_percpu handle_irq_event handle_edge_irq common_interrupt", Context.HARDIRQ),
        (f"drv_timer[drv] {X86_TIMER} handle_softirqs __irq_exit_rcu common_interrupt", Context.HARDIRQ),
        (
            "drv_irq[drv] gic_handle_irq call_on_irq_stack el1_interrupt el1h_64_irq_handler el1h_64_irq",
            Context.HARDIRQ,
        ),
        (
            "drv_irq[drv] gic_handle_irq do_interrupt_handler el0_interrupt __el0_irq_handler_common el0t_64_irq",
            Context.HARDIRQ,
        ),
        ("drv_irq[drv] gic_handle_irq el0_interrupt __el0_irq_handler_common", Context.HARDIRQ),
        ("drv_irq[drv] do_IRQ ret_from_intr", Context.HARDIRQ),
        # a softirq: when an interrupt ends, from local_bh_enable(), and in ksoftirqd
        (f"drv_rx[drv] net_rx_action handle_softirqs __irq_exit_rcu {X86_TIMER}", Context.SOFTIRQ),
        ("drv_rx[drv] __do_softirq do_softirq.part.0 __local_bh_enable_ip tcp_sendmsg do_syscall_64", Context.SOFTIRQ),
        ("rcu_core handle_softirqs run_ksoftirqd smpboot_thread_fn kthread ret_from_fork", Context.SOFTIRQ),
        ("rcu_core handle_softirqs.isra.0 run_ksoftirqd", Context.SOFTIRQ),
        # a task's own work on the way back from an interrupt, and preemption by one
        (f"drv_work[drv] task_work_run irqentry_exit_to_user_mode {X86_TIMER}", Context.TASK),
        ("drv_work[drv] task_work_run exit_to_user_mode_prepare irqentry_exit common_interrupt", Context.TASK),
        ("drv_work[drv] schedule preempt_schedule_irq irqentry_exit sysvec_reschedule_ipi", Context.TASK),
        # an NMI, wherever it hits
        (f"perf_event_nmi_handler nmi_handle default_do_nmi exc_nmi asm_exc_nmi {X86_TIMER}", Context.NMI),
        ("drv_nmi[drv] asm_exc_nmi handle_softirqs", Context.NMI),
        # names that only look like it
        ("my_common_interrupt_test do_syscall_64", Context.TASK),
        ("exc_nmission do_syscall_64", Context.TASK),
    ],
)
def test_the_context_is_that_of_the_innermost_telling_frame(stack: str, context: Context) -> None:
    assert context_from(frames(stack)) is context


def test_stacks_are_named_at_first_sight_and_keep_their_names() -> None:
    names = kernel_names()
    stacks = Stacks(names.symbols)
    names.symbols.module_loaded(module_image())
    addresses = [inside("__kmalloc_noprof"), inside("drv_probe"), inside("handle_softirqs"), inside("kthread")]
    stacks.add(7, addresses)
    names.symbols.module_loaded(module_image("other", functions={"other_probe": 0}))
    stacks.add(7, addresses)
    assert stacks.get(7).lines() == [
        "drv_probe+0x22/0x100 [drv]",
        "handle_softirqs+0x22/0x1000",
        "kthread+0x22/0x1000",
    ]
    assert stacks.get(7).context is Context.SOFTIRQ
    assert len(stacks) == 1
    stacks.add(8, addresses)
    assert stacks.get(8).lines()[0] == "other_probe+0x22/0x1000 [other]"


def test_a_module_that_comes_again_brings_new_keys_for_the_same_stacks() -> None:
    names = kernel_names()
    stacks = Stacks(names.symbols)
    elsewhere = 0x40000
    for number in range(3):
        names.symbols.module_loaded(module_image(base=DRIVER + number * elsewhere))
        for key, caller in ((10, "drv_probe"), (20, "drv_work"), (30, "kthread")):
            moved = number * elsewhere if caller.startswith("drv") else 0
            stacks.add(key + number, [inside("__kmalloc_noprof"), inside(caller) + moved])
    keys = np.array([12, 10, 21, 30, 31, 20, 99, 2**64 - 1], np.uint64)
    assert stacks.first_keys(keys).tolist() == [10, 10, 20, 30, 31, 20, 99, 2**64 - 1]
    assert len(stacks) == 2 + 3
    assert stacks.get(12) is stacks.get(10)
    assert stacks.text(10) == "drv_probe+0x22/0x100 [drv]"


def test_later_keys_are_forgotten_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_RENEWED", 8)
    names = kernel_names()
    stacks = Stacks(names.symbols)
    names.symbols.module_loaded(module_image())
    for key in range(1, 100):
        stacks.add(key, [inside("__kmalloc_noprof"), inside("drv_probe")])
        assert stacks.first_keys(np.array([key], np.uint64)).tolist() == [1]
        assert key in stacks
    assert len(stacks._renewed) <= 8
    forgotten = stacks.take_forgotten()
    assert sorted([1, *forgotten, *stacks._renewed]) == list(range(1, 100)), "whoever counts on them can be told"
    assert not any(key in stacks for key in forgotten)
    assert stacks.take_forgotten() == []


def test_a_lost_stack_is_no_stack() -> None:
    assert Stacks(kernel_names().symbols).get(0) is NO_STACK


@pytest.mark.parametrize(
    ("functions", "below"),
    [
        (("__kmalloc_noprof", "__get_vm_area_node", "vmalloc_noprof", "drv_probe"), True),
        (("__kmalloc_noprof", "drv_probe"), False),
        (("vmalloc_noprof", "drv_probe"), False),
    ],
)
def test_what_vmalloc_takes_from_the_slab_is_marked(functions: tuple[str, ...], below: bool) -> None:
    names = kernel_names()
    names.symbols.module_loaded(module_image())
    stacks = Stacks(names.symbols)
    stacks.add(1, [inside(function) for function in functions])
    assert stacks.get(1).below_machinery is below


@pytest.mark.parametrize("function", ["alloc_slab_obj_exts", "__pcs_replace_full_main", "__alloc_empty_sheaf"])
def test_what_a_slab_takes_for_its_own_books_is_marked(function: str) -> None:
    at = KERNEL_TEXT["_etext"]
    functions = {**KERNEL_TEXT, function: at, "_etext": at + 0x1000}
    stacks = Stacks(KernelNames(parse_kallsyms(kallsyms(functions))).symbols)
    stacks.add(1, [inside("__kmalloc_noprof"), at + 0x63, inside("__kmalloc_noprof"), inside("core_alloc")])
    assert stacks.get(1).below_machinery


@pytest.mark.parametrize(
    ("stack", "own"),
    [
        ("drv_get do_one_initcall", 2),
        ("drv_timer call_timer_fn handle_softirqs irq_exit_rcu drv_other", 3),
        ("drv_irq __handle_irq_event_percpu common_interrupt asm_common_interrupt drv_other", 2),
        # arm64: the kernel was interrupted, on its own stack or on that of interrupts, or a program was
        ("drv_irq handle_irq_desc gic_handle_irq call_on_irq_stack do_interrupt_handler el1_interrupt drv_other", 2),
        ("drv_irq handle_irq_desc gic_handle_irq do_interrupt_handler el1_interrupt drv_other", 2),
        ("drv_irq handle_irq_desc gic_handle_irq call_on_irq_stack do_interrupt_handler el0_interrupt", 2),
        ("drv_get exit_to_user_mode_loop do_syscall_64", 3),
        ("", 0),
    ],
)
def test_what_an_interrupt_came_upon_is_not_its_own(stack: str, own: int) -> None:
    assert len(Stack(frames(stack), Context.UNKNOWN).own_frames) == own


@pytest.mark.parametrize(
    ("lines", "function"),
    [
        (["kstrdup+0x1f/0x60", "drv_probe+0x22/0x100 [drv]", "do_one_initcall+0x22/0x1000"], "drv_probe"),
        (["drv_probe+0x22/0x100 [drv]"], "drv_probe"),
        (["nla_strdup+0x2a/0x60", "tcf_connmark_init+0x3f/0x300 [act_connmark]"], "tcf_connmark_init"),
        (["__alloc_skb+0x90/0x1c0", "alloc_skb_with_frags+0x50/0x1e0", "drv_send+0x22/0x100 [drv]"], "drv_send"),
        (["0xffffffffc0100022", "do_one_initcall+0x22/0x1000"], ""),
        (["vmalloc_noprof+0x22/0x100"], ""),
        ([], ""),
    ],
)
def test_who_asked_for_the_memory(lines: list[str], function: str) -> None:
    assert requester_function(lines) == function


@pytest.mark.parametrize("made", ["", ".isra.0", ".constprop.12", ".part.0.isra.0", ".cold", ".llvm.1234567890"])
def test_a_function_goes_by_the_name_that_its_source_has(made: str) -> None:
    assert function_of(f"drv_probe{made}+0x22/0x100 [drv]") == "drv_probe"
    assert function_of("rust.mangled_name+0x1/0x2") == "rust.mangled_name"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["__kmalloc_noprof+0x1/0x2", "drv_probe+0x1/0x2 [drv]"], "drv_probe [drv]"),
        (["__kmalloc_noprof+0x1/0x2", "0xffffffffc0100022", "vfs_write+0x1/0x2"], "unnamed code at 0xffffffffc0100022"),
        (["0xffffffffc0100022"], "unnamed code at 0xffffffffc0100022"),
        (["__kmalloc_noprof+0x1/0x2"], "__kmalloc_noprof"),
        ([], "(no call stack)"),
    ],
)
def test_a_heading_never_names_an_allocator_if_anything_called_it(lines: list[str], words: str) -> None:
    assert requester_words(lines) == words
    assert requester_line(lines) == ("" if "unnamed" in words or "(" in words or len(lines) == 1 else lines[1])


@pytest.mark.parametrize(
    ("stack", "module", "line"),
    [
        ("kmalloc drv_probe[drv] bus_probe[bus]", "drv", "drv_probe+0x1/0x2 [drv]"),
        ("bpf_prog_1_x[bpf] kmalloc drv_probe[drv]", "drv", "drv_probe+0x1/0x2 [drv]"),
        ("kmalloc do_one_initcall", "", ""),
        ("", "", ""),
    ],
)
def test_the_module_of_a_stack_is_the_innermost(stack: str, module: str, line: str) -> None:
    named = Stack(frames(stack), Context.TASK)
    assert (named.module, module_line(named.lines())) == (module, line)
    assert module_of(line) == module


def test_a_frame_s_title_is_its_function_and_module() -> None:
    assert [frame.title for frame in frames("drv_probe[drv] do_one_initcall")] == ["drv_probe [drv]", "do_one_initcall"]
    (nameless,) = frames("?")
    assert nameless.title == str(nameless)
