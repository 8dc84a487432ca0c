# SPDX-License-Identifier: GPL-2.0-or-later
"""A tiny kernel and a module of it, compiled with debug information."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kleaktrace.core.report import Kernel
from kleaktrace.core.symbols.symbol_table import ELF_SYMBOL
from kleaktrace.edge.debug_info.debug_files import MACHINES
from kleaktrace.edge.debug_info.elf_file import ElfFile

MAIN = """\
void *volatile kept;

__attribute__((noinline, noclone)) void *kernel_alloc(int size)
{
    kept = 0;
    return (void *)(long)size;
}

__attribute__((noinline, noclone)) int do_one_initcall(int count)
{
    kept = kernel_alloc(count); /* in do_one_initcall */
    return count;
}

void start_kernel(void)
{
    do_one_initcall(1);
    kept = 0;
}
"""

HEADER = """\
extern void *volatile kept;
extern void *kernel_alloc(int size);

static inline __attribute__((always_inline)) void *drv_get(int size)
{
    return kernel_alloc(size); /* in drv_get */
}
"""

DRIVER = """\
#include "drv.h"

void *drv_probe(int size)
{
    kept = 0;
    kept = drv_get(size); /* in drv_probe */
    return kept;
}

__attribute__((section(".init.text"))) int drv_init(void)
{
    kept = kernel_alloc(5); /* in drv_init */
    return 0;
}

int drv_last(void)
{
    return 0;
}
"""

_OPTIONS = ["-g", "-O2", "-ffreestanding", "-fno-pie", "-fno-optimize-sibling-calls", "-fcf-protection=none"]
_RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])


@dataclass(frozen=True)
class DebugBuild:
    """vmlinux and drv.ko below `directory`, built from sources in `sources`, and frames of calls in them."""

    directory: Path
    sources: Path
    kernel: Kernel
    build_ids: dict[str, str]
    initcall: str
    probe: str
    init: str

    @property
    def vmlinux(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def module(self) -> Path:
        return self.directory / "drv.ko"


def line_of(source: str, function: str) -> int:
    """The line that is marked as the function's."""
    return next(at for at, line in enumerate(source.splitlines(), 1) if f"/* in {function} */" in line)


def build(home: Path, extra: tuple[str, ...] = ()) -> DebugBuild:
    """Compile both with gcc; extra: more options for the compiler."""
    sources, directory = home / "linux", home / "build"
    for path, text in (("init/main.c", MAIN), ("drivers/drv.c", DRIVER), ("drivers/drv.h", HEADER)):
        (sources / path).parent.mkdir(parents=True, exist_ok=True)
        (sources / path).write_text(text)
    directory.mkdir()
    main, driver = directory / "main.o", directory / "drv.o"
    options = [option for option in _OPTIONS if not option.startswith("-fcf") or _machine() == "x86_64"]
    for source, target in ((sources / "init/main.c", main), (sources / "drivers/drv.c", driver)):
        _run("gcc", *options, *extra, "-c", str(source), "-o", str(target))
    linking = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id", "-Wl,-e,start_kernel"]
    _run("gcc", *linking, str(main), "-o", str(directory / "vmlinux"))
    _run("ld", "-r", "--build-id", str(driver), "-o", str(directory / "drv.ko"))
    return DebugBuild(
        directory,
        sources,
        Kernel("6.12.0-made-up", _machine()),
        {"": ElfFile(directory / "vmlinux").build_id, "drv": ElfFile(directory / "drv.ko").build_id},
        _frame(ElfFile(main), "do_one_initcall"),
        f"{_frame(ElfFile(driver), 'drv_probe')} [drv]",
        f"{_frame(ElfFile(driver), 'drv_init')} [drv]",
    )


def _machine() -> str:
    return next(name for name, number in MACHINES.items() if number == ElfFile(Path("/proc/self/exe")).machine)


def _frame(elf: ElfFile, function: str) -> str:
    """The frame of what is called in a function of an object file: where the linker must put in the address."""
    (known,) = elf.functions([0] * len(elf.sections))[function]
    table = next(section for section in elf.sections if section.type == 2)
    symbols = np.frombuffer(elf.content(table), ELF_SYMBOL)
    strings = elf.content(elf.sections[table.link])
    named = [symbol for symbol in symbols if strings[symbol["name"] :].startswith(f"{function}\0".encode())]
    relocations = next(s for s in elf.sections if s.type == 4 and s.info == named[0]["section"])
    for row in np.frombuffer(elf.content(relocations), _RELOCATION):
        called = strings[symbols[row["symbol"]]["name"] :].partition(b"\0")[0]
        if called == b"kernel_alloc" and known.address <= row["offset"] < known.address + known.size:
            return f"{function}+{int(row['offset']) + 4 - known.address:#x}/{known.room:#x}"
    raise AssertionError(f"{function} calls nobody")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60)
