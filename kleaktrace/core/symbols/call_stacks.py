# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks by key: named once, at first sight, and cleared of the frames that only say "traced" or "allocator"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.records import Context
from kleaktrace.core.symbols.requesters import is_allocator, owns, requester_place
from kleaktrace.core.symbols.symbol_table import Frame, Symbols

# The way from the allocator into our own programs.
_TRACING = re.compile(
    r"^(bpf_\w*trampoline\w*|bpf_prog_\w+|bpf_get_stack\w*|bpf_trace_run\w*|__bpf_trace_\w+|__traceiter_\w+|trace_\w+"
    r"|__bpf_prog_\w+|kprobe_\w+|kretprobe_\w+|ftrace_\w+|arch_rethook_\w+|rethook_\w+|__ftrace_\w+|trace_call_bpf"
    r"|__kretprobe_trampoline|perf_trace_\w+|fprobe_\w+|optimized_callback|arch_ftrace_\w+)$"
)

# The machinery below the allocators: what it takes from the slab is its own bookkeeping. Of a slab, that is a word for
# each object where allocations are profiled or accounted to cgroups (mm/slub.c; mm/memcontrol.c before v6.10); of a
# cache, sheaves, which whoever takes or frees an object has it allocate (mm/slub.c).
_MACHINERY = re.compile(
    r"^_*(vmalloc_node|vmalloc_area|get_vm_area|alloc_vmap_area|vmap_|pcpu_|alloc_slab_obj_exts|memcg_alloc_slab_cgroups"
    r"|alloc_empty_sheaf|pcs_replace_|kfree_rcu_sheaf)"
)
# Through it once goes every vmalloc; twice, what it takes from itself: the array of very many pages.
_VMALLOC = re.compile(r"^__vmalloc_node_range")

_BPF = "bpf"
"""Where kallsyms has the programs of BPF: no module."""

# What compilers add to the name of a function that they have split or specialised.
_MADE_BY_COMPILER = re.compile(r"(\.(isra|constprop|part|cold|llvm|lto_priv)(\.\d+)?)+$")

_SOFTIRQ = re.compile(r"^(handle_softirqs|__do_softirq)(\..*)?$")
_NMI = re.compile(r"^(asm_)?(exc_nmi|default_do_nmi|do_nmi|nmi_handle)\b")
# kernel/irq/handle.c and irqdesc.c, and what calls them: arch/x86/kernel/irq.c, arch/arm64/kernel/entry-common.c. The
# innermost are the same whether the kernel was interrupted, on whichever of its stacks, or a program (el0_interrupt).
_HARDIRQ = re.compile(
    r"^(__?)?(sysvec_\w+|common_interrupt|do_IRQ|handle_irq_event\w*|handle_irq_desc|generic_handle_domain_irq"
    r"|do_interrupt_handler|el1h?_irq\w*|el[01]_interrupt)(\..*)?$"
)
_BACK_TO_TASK = re.compile(
    r"^(irqentry_exit\w*|exit_to_user_mode\w*|raw_irqentry_exit_cond_resched|preempt_schedule_irq)"
)


@dataclass(frozen=True, slots=True)
class Stack:
    """A named call stack, innermost frame first, beginning at the code that called the allocator."""

    frames: tuple[Frame, ...]
    context: Context
    below_machinery: bool = False
    """Whether it goes through the inside of an allocator, which took this for itself."""
    within_vmalloc: bool = False
    """Whether vmalloc called itself."""

    @property
    def owner(self) -> Frame | None:
        """The innermost frame whose memory it is, by `requesters.owns`: what is left behind is its fault."""
        return next((f for f in self.frames if f.name is None or owns(f.name)), None)

    @property
    def requester(self) -> Frame | None:
        """The innermost frame that asked in its own interest, by `requester_place`: who is to be named.

        It may be further out than the owner: code that sends an skb asked for it, and does not own it any more. What
        functions call that only allocate for their callers (`ext4_alloc_inode`, by `alloc_inode`) is a part of them.
        """
        own = self.own_frames
        place = requester_place([(frame.name, bool(frame.module)) for frame in own])
        return None if place is None else own[place]

    @property
    def own_frames(self) -> tuple[Frame, ...]:
        """The frames without those that an interrupt only came upon, which had nothing to do with the allocation."""
        return self.frames[: _telling(self.frames)[1]]

    @property
    def module(self) -> str:
        """The module nearest to the allocation; empty: only the kernel's own code took part."""
        return next((f.module for f in self.own_frames if f.module and f.module != _BPF), "")

    @property
    def modules(self) -> frozenset[str]:
        """Names of the modules it passes through."""
        return frozenset(f.module for f in self.frames if f.module and f.module != _BPF)

    def lines(self) -> list[str]:
        """The frames as text, in the form of the kernel's own traces."""
        return [str(frame) for frame in self.frames]


_MOST_RENEWED = 1 << 16
"""Later keys that are remembered."""

NO_STACK = Stack((), Context.UNKNOWN)
"""What is shown where no stack could be taken."""


def trim(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Drop the innermost frames that belong to the tracer and the allocator, but never all of them.

    A frame without a name is dropped only if one of theirs is behind it: it may be the code that asked.
    """
    start = 0
    for number, frame in enumerate(frames, start=1):
        if frame.name is None:
            continue
        if not (frame.module == _BPF or _TRACING.match(frame.name) or is_allocator(frame.name)):
            break
        start = number
    return tuple(frames[start:]) or tuple(frames)


def context_from(frames: Sequence[Frame]) -> Context:
    """What the CPU was doing, told from the stack alone, for kernels that don't show us their preempt_count."""
    return _telling(frames)[0]


def _telling(frames: Sequence[Frame]) -> tuple[Context, int]:
    """The context, and how many of the frames are its own: what is further out was interrupted.

    The innermost telling frame decides: an interrupt's exit may run softirqs, or give the CPU back to the task.
    """
    for number, frame in enumerate(frames, start=1):
        told = _told_by(frame.name or "")
        if told is Context.TASK:
            break
        if told is not None:
            return told, number
    return Context.TASK, len(frames)


@lru_cache(1 << 14)
def _told_by(function: str) -> Context | None:
    """The context that a function runs in, or gives the CPU back to; None: any."""
    patterns = (
        (_SOFTIRQ, Context.SOFTIRQ),
        (_NMI, Context.NMI),
        (_BACK_TO_TASK, Context.TASK),
        (_HARDIRQ, Context.HARDIRQ),
    )
    return next((context for pattern, context in patterns if pattern.match(function)), None)


def requester_line(lines: Sequence[str]) -> str:
    """As `Stack.requester`, in frames as text; empty: there is none, or it has no name."""
    line = _asking_line(lines)
    return "" if _is_nameless(line) else line


def _asking_line(lines: Sequence[str]) -> str:
    named = [(None if _is_nameless(line) else function_of(line), line.endswith("]")) for line in lines]
    place = requester_place(named)
    return "" if place is None else lines[place]


def _is_nameless(line: str) -> bool:
    return line.startswith("0x")


def requester_words(lines: Sequence[str]) -> str:
    """Who asked, for headings: `drv_probe [drv]`; where nobody did, the innermost frame.

    Of code that has no name any more, as its module is gone, the address.
    """
    line = _asking_line(lines) or next(iter(lines), "(no call stack)")
    if _is_nameless(line):
        return f"unnamed code at {line}"
    module = module_of(line)
    return function_of(line) + (f" [{module}]" if module else "")


def requester_function(lines: Sequence[str]) -> str:
    """The name of the function in `requester_line`."""
    return function_of(requester_line(lines))


def function_of(line: str) -> str:
    """The function in a frame as text, as its source has it: `drv_probe` of `drv_probe.isra.0+0x22/0x100 [drv]`."""
    return _MADE_BY_COMPILER.sub("", line.partition("+")[0])


def module_of(line: str) -> str:
    """The module in a frame as text: `drv` of `drv_probe+0x22/0x100 [drv]`; empty: it is of the kernel itself."""
    return line.rpartition(" [")[2].removesuffix("]") if line.endswith("]") else ""


def module_line(lines: Sequence[str]) -> str:
    """The innermost of the frames as text that is a module's; empty: none is."""
    return next((line for line in lines if module_of(line) not in ("", _BPF)), "")


class Stacks:
    """Every stack seen, by key. Bounded by the number of distinct stacks, some hundreds of bytes each; twice that if
    their texts are asked for.

    A module that comes again brings new keys for stacks with the same names. They are the same stacks, and go by their
    first keys.
    """

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._stacks: dict[int, Stack] = {}
        self._texts: dict[int, str] = {}
        self._first_keys: dict[tuple[object, ...], int] = {}  # of stacks with frames in modules, by their names
        self._renewed: dict[int, int] = {}  # later keys, and the first ones
        self._sorted: tuple[U64, U64] | None = None  # the same, for looking up many at once
        self._forgotten: list[int] = []

    @classmethod
    def restored(cls, symbols: Symbols, stacks: Mapping[int, Stack]) -> Stacks:
        """Those that were named once, by their first keys."""
        made = cls(symbols)
        made._stacks = dict(stacks)
        return made

    def since(self, count: int) -> list[tuple[int, Stack]]:
        """The stacks that came after so many, by their first keys. Nothing may be added meanwhile."""
        return list(islice(self._stacks.items(), count, None))

    def add(self, key: int, addresses: Sequence[int]) -> None:
        """Name a stack now, while its modules are still there. A known key keeps its names."""
        if key in self._stacks or key in self._renewed:
            return
        frames = [self._symbols.frame(address) for address in addresses]
        first = self._first_key(key, frames)
        if first == key:
            inside = any(f.name and _MACHINERY.match(f.name) for f in frames)
            nested = sum(bool(f.name and _VMALLOC.match(f.name)) for f in frames) > 1
            self._stacks[key] = Stack(trim(frames), context_from(frames), inside, nested)
        else:
            self._renew(key, first)

    def get(self, key: int) -> Stack:
        """The stack of this key, `NO_STACK` if it was lost."""
        return self._stacks.get(self._renewed.get(key, key), NO_STACK)

    def text(self, key: int) -> str:
        """Its frames, a line each. Kept once made: who compares stacks by it does so again and again."""
        if key not in self._stacks:
            return ""
        if key not in self._texts:
            self._texts[key] = "\n".join(self._stacks[key].lines())
        return self._texts[key]

    def first_keys(self, keys: U64) -> U64:
        """The first keys of the stacks that these keys stand for."""
        if not self._renewed:
            return keys
        if self._sorted is None:
            renewed = np.array(sorted(self._renewed.items()), np.uint64)
            self._sorted = renewed[:, 0].copy(), renewed[:, 1].copy()
        later, first = self._sorted
        places = np.searchsorted(later, keys)
        places[places == later.size] = 0
        return np.where(later.take(places) == keys, first.take(places), keys)

    def take_forgotten(self) -> list[int]:
        """Keys that were forgotten since the last call: if one of them comes again, it has to be added again."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def __contains__(self, key: object) -> bool:
        return key in self._stacks or key in self._renewed

    def __len__(self) -> int:
        return len(self._stacks)

    def _first_key(self, key: int, frames: Sequence[Frame]) -> int:
        if not any(frame.module for frame in frames):
            return key
        names = tuple((f.name, f.offset, f.size, f.module) if f.name else f.address for f in frames)
        return self._first_keys.setdefault(names, key)

    def _renew(self, key: int, first: int) -> None:
        if len(self._renewed) >= _MOST_RENEWED:
            # The oldest are of modules that have come and gone many times since: hardly ever they come back.
            self._forgotten += list(self._renewed)[: _MOST_RENEWED // 2]
            for old in self._forgotten:
                self._renewed.pop(old, None)
        self._renewed[key] = first
        self._sorted = None
