# SPDX-License-Identifier: GPL-2.0-or-later
"""drgn as the program that reads debug information, where it is installed and no other is.

It answers as they do, a thousand times slower than llvm-symbolizer: it is the last to be asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kleaktrace.edge.debug_info.elf_file import ElfFile
from kleaktrace.edge.debug_info.symbolizer import Answer

_ADDRESSES = 1 << 64
_ARCHITECTURES = {62: "X86_64", 183: "AARCH64"}


class Drgn:
    """drgn (https://drgn.readthedocs.io), since it has `Program.source_location` and modules made by hand."""

    name = "drgn"

    def __init__(self, library: Any) -> None:
        self._library = library

    def answers(self, path: Path, addresses: Sequence[int], deadline: float) -> Iterator[Answer]:
        """As `Symbolizer.answers`."""
        program, bias = self._program(path)
        for address in addresses:
            if time.monotonic() >= deadline:
                return
            try:
                found = program.source_location((address + bias) % _ADDRESSES)
            except LookupError:
                found = ()
            yield Answer(address, tuple((one.name() or "??", one.filename, one.line) for one in found if one.filename))

    def _program(self, path: Path) -> tuple[Any, int]:
        """A program that is nothing but this file, and what it adds to the file's addresses."""
        library = self._library
        architecture = getattr(library.Architecture, _ARCHITECTURES[ElfFile(path).machine])
        flags = library.PlatformFlags.IS_64_BIT | library.PlatformFlags.IS_LITTLE_ENDIAN
        program = library.Program(library.Platform(architecture, flags))
        module = program.extra_module(path.name, create=True)
        module.address_range = 0, _ADDRESSES - 1
        module.try_file(path, force=True)
        return program, module.debug_file_bias or 0


def installed_drgn() -> Drgn | None:
    """None: it is not installed, or is too old."""
    try:
        library = import_module("drgn")
    except ImportError:
        return None
    return Drgn(library) if hasattr(library.Program, "source_location") else None
