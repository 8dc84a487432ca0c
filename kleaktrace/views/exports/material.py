# SPDX-License-Identifier: GPL-2.0-or-later
"""What all formats are made from, and how they name frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.source_lines.source_lines import SourceLines
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


def frames_of(made: Material) -> set[str]:
    """The frames, as text, of which source lines are of use to all formats."""
    frames = {frame for row in made.rows for frame in row.stack.frames}
    return made.report.all_frames().union(map(str, frames))


def module_of(frame: Frame) -> str:
    """The module in brackets, as kallsyms and perf write it; of the kernel's own code, what perf calls it.

    Empty for an address that nobody could name: it is not known whose it was.
    """
    return f"[{clean(frame.module or 'kernel.kallsyms')}]" if frame.name is not None else ""


def frame_name(frame: Frame) -> str:
    """Function and module for a flame graph: `drv_probe [drv]`; without the offset, so that callers join."""
    return clean(frame.title)


class NamedFrame(NamedTuple):
    """A function of a graph: its name, and the file and line there; an empty file and 0: not known."""

    name: str
    file: str
    line: int


def named_frames(frame: Frame, sources: SourceLines) -> list[NamedFrame]:
    """A frame as a graph has it: before it the functions that the compiler has put into it, innermost first."""
    lines = sources.of(str(frame)) if sources else ()
    if not lines:
        return [NamedFrame(frame_name(frame), "", 0)]
    module = f" [{frame.module}]" if frame.module else ""
    names = [clean(f"{one.function}{module}") for one in lines[:-1]] + [frame_name(frame)]
    return [NamedFrame(name, clean(one.file), one.line) for name, one in zip(names, lines, strict=True)]


def root_first(stack: Stack) -> Iterable[Frame]:
    """The stack's own frames, outermost first: an interrupt is a root, whatever it came upon."""
    return reversed(stack.own_frames)


def names_root_first(stack: Stack) -> list[str]:
    """The names of those frames; of a lost stack, one that says so."""
    return [frame_name(frame) for frame in root_first(stack)] or [NO_STACK_LABEL]
