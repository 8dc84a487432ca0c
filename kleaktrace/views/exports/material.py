# SPDX-License-Identifier: GPL-2.0-or-later
"""What all formats are made from, and how they name frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.core.tables.stack_rows import StackRow, stack_rows
from kleaktrace.terminal import clean


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to export. rows: the most outstanding bytes first."""

    report: Report
    rows: Sequence[StackRow]


def material(recording: Recording) -> Material:
    """Judge a recording, and work out what all formats are made from."""
    report = recording.report(recording.judge())
    return Material(report, stack_rows(recording, report))


def module_of(frame: Frame) -> str:
    """The module in brackets, as kallsyms and perf write it; of the kernel's own code, what perf calls it.

    Empty for an address that nobody could name: it is not known whose it was.
    """
    return f"[{clean(frame.module or 'kernel.kallsyms')}]" if frame.name is not None else ""


def frame_name(frame: Frame) -> str:
    """Function and module for a flame graph: `drv_probe [drv]`; without the offset, so that callers join."""
    if frame.name is None:
        return f"{frame.address:#x}"
    return clean(f"{frame.name} [{frame.module}]" if frame.module else frame.name)


def root_first(stack: Stack) -> Iterable[Frame]:
    """The stack's own frames, outermost first: an interrupt is a root, whatever it came upon."""
    return reversed(stack.own_frames)


def names_root_first(stack: Stack) -> list[str]:
    """The names of those frames; of a lost stack, one that says so."""
    return [frame_name(frame) for frame in root_first(stack)] or [NO_STACK_LABEL]
