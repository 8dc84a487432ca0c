# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks up the source lines of frames in whatever debug information there is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kleaktrace.core.arrays.gc_pause import kept_uncollected
from kleaktrace.core.report import Kernel
from kleaktrace.core.source_lines.answers import AnswerReader, Named
from kleaktrace.core.source_lines.file_names import source_root
from kleaktrace.core.source_lines.function_table import Function, calls
from kleaktrace.core.source_lines.source_lines import KERNEL, CodePlace, SourceLine, SourceLines, code_place
from kleaktrace.edge.debug_info.debug_files import DebugFiles, NotFound
from kleaktrace.edge.debug_info.drgn_reader import installed_drgn
from kleaktrace.edge.debug_info.elf_file import RELOCATABLE, ElfFile
from kleaktrace.edge.debug_info.relocated import section_addresses, write_relocated
from kleaktrace.edge.debug_info.symbolizer import Answer, symbolizers

_MOST_S, _MOST_LIVE_S = 60.0, 10.0
"""For all of a report. A million frames of the kernel take a third of it; who has just run a command, waits less."""

_REPORTED = 5_000
"""Answers between two reports of progress."""

_KNOWN_FUNCTION, _KNOWN_FILE = "start_kernel", "init/main.c"
"""By which the directory of the kernel's sources is told."""

_NO_PROGRAM = "no source lines: there is neither llvm-symbolizer nor addr2line nor drgn: apt install llvm, or binutils"

Progress = Callable[[int, int], None]
"""Told how many addresses of a file have been answered, and of how many."""


class Program(Protocol):
    """What reads debug information."""

    @property
    def name(self) -> str:
        """As people know it."""

    def answers(self, path: Path, addresses: Sequence[int], deadline: float) -> Iterator[Answer]:
        """Answers for ascending addresses in a file, in their order; fewer if it fails, or its time is up."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file that programs can read, and the functions in it, where these programs see them."""

    path: Path
    functions: Mapping[str, list[Function]]


class _Lookup:
    """One report's. `missing` collects why something is not known: modules by why, and what to do."""

    def __init__(self, files: DebugFiles, programs: Sequence[Program], progress: Progress, most_s: float) -> None:
        self._files, self._programs, self._progress = files, programs, progress
        self._deadline = time.monotonic() + most_s
        self._root = ""
        self._missing: dict[tuple[str, str], list[str]] = {}

    def of_module(self, module: str, frames: Mapping[CodePlace, str]) -> Iterator[tuple[str, tuple[SourceLine, ...]]]:
        """The lines of frames of one module."""
        if not self._programs:
            self._missing.setdefault((_NO_PROGRAM, ""), [])
            return
        try:
            elf = self._files.find(module)
        except NotFound as none:
            self._note(module, none.why, none.fix)
            return
        try:
            with _opened(elf) as opened:
                yield from self._lines(module, frames, opened, self._files.is_same_build(module, elf))
        except (OSError, ValueError) as error:
            self._note(module, f"{elf.path} can't be used: {getattr(error, 'strerror', None) or error}", "")

    def sentences(self) -> list[str]:
        """What is missing."""
        return [
            f"no source lines for {', '.join(names)}: {': '.join(filter(None, reason))}" if names else reason[0]
            for reason, names in self._missing.items()
        ]

    def _lines(
        self, module: str, frames: Mapping[CodePlace, str], opened: _Opened, same_build: bool
    ) -> Iterator[tuple[str, tuple[SourceLine, ...]]]:
        wanted = {place: calls(place, opened.functions, same_build) for place in frames}
        known = [one.address for one in opened.functions.get(_KNOWN_FUNCTION, ())] if module == KERNEL else []
        addresses = sorted({*known, *(address for found in wanted.values() for address in found)})
        answers = self._answers(module, opened.path, addresses)
        for address in known:
            self._root = source_root(answers[address][-1][1], _KNOWN_FILE) if answers.get(address) else ""
        reader = AnswerReader(self._root)
        for place, found in wanted.items():
            lines = reader.lines(place, [answers.get(address, ()) for address in found])
            if lines:
                yield frames[place], lines

    def _answers(self, module: str, path: Path, addresses: Sequence[int]) -> dict[int, tuple[Named, ...]]:
        """What the first program says that says anything."""
        answers: dict[int, tuple[Named, ...]] = {}
        for program in self._programs if addresses else ():
            for answer in program.answers(path, addresses, self._deadline):
                answers[answer.address] = answer.lines
                if len(answers) % _REPORTED == 0:
                    self._progress(len(answers), len(addresses))
            if answers:
                break
        if len(answers) < len(addresses):
            why = "took too long" if time.monotonic() >= self._deadline else "failed"
            self._note(module, f"{program.name} {why} after {len(answers):,} of {len(addresses):,} places", "")
        return answers

    def _note(self, module: str, why: str, fix: str) -> None:
        self._missing.setdefault((why, fix), []).append(module or "the kernel")


def look_up(
    frames: Iterable[str],
    kernel: Kernel,
    build_ids: Mapping[str, str],
    directories: Sequence[Path] = (),
    progress: Progress = lambda done, total: None,
    *,
    live: bool = False,
) -> SourceLines:
    """The source lines of frames, given as text, of a kernel that runs here or elsewhere.

    build_ids: by module, as far as they are known; files of another build are refused. directories: where to look for
    debug information before the places where distributions install it. live: of the kernel that runs here, and somebody
    waits: the programs get less time, and the trees of tools/guest are left out, which an emulated guest takes minutes
    to read.
    """
    by_module: dict[str, dict[CodePlace, str]] = {}
    known: dict[str, Sequence[SourceLine]] = {}
    files = DebugFiles(kernel.release, kernel.arch, build_ids, directories, in_guests=not live)
    lookup = _Lookup(files, _programs(), progress, _MOST_LIVE_S if live and not directories else _MOST_S)
    with kept_uncollected():
        for frame in frames:
            place = code_place(frame)
            if place is not None:
                by_module.setdefault(place.module, {})[place] = frame
        for module in sorted(by_module):  # the kernel first: it tells where all sources are
            known.update(lookup.of_module(module, by_module[module]))
    return SourceLines(known, lookup.sentences())


def _programs() -> list[Program]:
    """Those that are installed, the fastest first."""
    drgn = installed_drgn()
    return [*symbolizers(), *([drgn] if drgn else [])]


@contextmanager
def _opened(elf: ElfFile) -> Iterator[_Opened]:
    if elf.type != RELOCATABLE:
        yield _Opened(elf.path, elf.functions([0] * len(elf.sections)))
        return
    with tempfile.NamedTemporaryFile(prefix="kleaktrace-", suffix=".ko") as copy:
        write_relocated(elf, copy)
        copy.flush()
        yield _Opened(Path(copy.name), elf.functions(section_addresses(elf)))
