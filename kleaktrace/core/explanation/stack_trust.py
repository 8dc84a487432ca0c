# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a printed backtrace can be trusted: what in it tells that an unwinder guessed, or came through a tracer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kleaktrace.core.kmemleak.frames import KmemleakFrame

_TRACER = re.compile(
    r"bpf_trampoline_\w+|bpf_prog_\w+|bpf_trace_run\w*|__bpf_\w+|ftrace_\w+|__ftrace_\w+|arch_ftrace_\w+|function_trace_call"
    r"|kprobe_\w+|kretprobe_\w+|__kretprobe_trampoline|optimized_callback|opt_pre_handler|aggr_pre_handler|rethook_\w+"
    r"|arch_rethook_\w+|fprobe_\w+|return_to_handler|trace_graph_\w+|perf_trace_\w+|trace_event_raw_\w+|__traceiter_\w+"
    r"|klp_\w+|mcount\w*|_mcount|trampoline_probe_handler"
)
_ENTRIES = re.compile(
    r"ret_from_fork\w*|secondary_startup\w*|entry_\w+|system_call\w*|\w*_syscall\w*|start_kernel|_stext"
)


def doubts(frames: Sequence[KmemleakFrame], requester_at: int | None) -> tuple[str, ...]:
    """Say why a backtrace may not be what was called, a sentence each; none if nothing tells so."""
    found = []
    begin = (requester_at or 0) + 1
    tracers = [f.symbol for f in frames[begin:] if f.symbol and _TRACER.fullmatch(f.symbol)]
    if tracers:
        found.append(
            f"frames of a tracer in its middle ({tracers[0]}): what is above them is the tracer's own memory, or a "
            "function's that was patched"
        )
    zeros = [f.symbol for f in frames if f.offset == 0 and f.symbol and not _ENTRIES.fullmatch(f.symbol)]
    if zeros:
        found.append(
            f"{zeros[0]}+0x0 is no place to return to: the unwinder guessed (no frame pointers), so frames may be "
            "missing, or left over from earlier calls"
        )
    return tuple(found)
