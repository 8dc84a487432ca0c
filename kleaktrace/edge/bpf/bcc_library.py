# SPDX-License-Identifier: GPL-2.0-or-later
"""The only module that talks to bcc, which has no type stubs, loads LLVM, and reports trouble on standard error.

It compiles our C sources, and attaches kprobes; what else there is to do with programs does without it
(edge/bpf/bpf_object.py).
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kleaktrace.edge.bpf.compiled_programs import MapSpec, Programs, unbound
from kleaktrace.edge.bpf.own_process import ProcessEnded, in_own_process, last_line, said_so_far
from kleaktrace.errors import EnvironmentRefusal

# By perf's PMU, or by tracefs at one of its places: libbcc tries all.
_KPROBES = tuple(
    map(
        Path,
        (
            "/sys/bus/event_source/devices/kprobe",
            "/sys/kernel/tracing/kprobe_events",
            "/sys/kernel/debug/tracing/kprobe_events",
        ),
    )
)

HEADERS = "BCC_KERNEL_SOURCE"
"""The environment variable by which libbcc finds headers."""

FLAGS = ("-w", "-g0")
"""Without debug information, which would describe the programs to bpftool, a fifth of the time goes."""

_COMPILER = re.compile(r"/lib(?:bcc|clang|LLVM)[^/]*$")


@contextmanager
def _quiet_stderr() -> Iterator[Callable[[], str]]:
    """Catch what libbcc writes to file descriptor 2; the yielded function returns it."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)

        def said() -> str:
            sink.seek(0)
            return sink.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _import_bcc() -> Any:
    # Here and not above: it loads LLVM, which only compiling needs.
    try:
        import bcc  # type: ignore[import-untyped]
    except ImportError as error:
        raise EnvironmentRefusal(
            "the distribution's bcc is not importable",
            "apt-get install python3-bpfcc, and make the venv with /usr/bin/python3 -m venv --system-site-packages",
        ) from error
    if not hasattr(bcc, "BPF"):
        raise EnvironmentRefusal(
            "the installed 'bcc' is another project of that name", "pip uninstall bcc; apt-get install python3-bpfcc"
        )
    lib = bcc.lib
    # bcc declares only what it calls itself.
    lib.bpf_num_tables.argtypes = (ctypes.c_void_p,)
    lib.bpf_table_name.argtypes, lib.bpf_table_name.restype = (ctypes.c_void_p, ctypes.c_ulonglong), ctypes.c_char_p
    for size in (lib.bpf_table_key_size_id, lib.bpf_table_leaf_size_id):
        size.argtypes, size.restype = (ctypes.c_void_p, ctypes.c_ulonglong), ctypes.c_size_t
    return bcc


def version() -> str:
    """The version of the distribution's bcc. Raises `EnvironmentRefusal` if it can't be used."""
    return str(getattr(_import_bcc(), "__version__", "unknown"))


class Compiled(NamedTuple):
    """What clang made of C sources, and the libraries that did it."""

    programs: Programs
    compiler: Sequence[str]


def compile_programs(text: str, headers: Path, macros: Mapping[str, str | int]) -> Compiled:
    """Have clang compile C sources. Raises `EnvironmentRefusal` when it can't.

    libbcc makes the maps, too: they should be small here. They are gone on return, and so is LLVM.
    """
    try:
        return in_own_process(partial(_compile, text, headers, macros))
    except ProcessEnded as ended:
        raise EnvironmentRefusal(
            f"clang gave up on the BPF programs: {ended}", "report it, with `kleaktrace doctor --json`"
        ) from ended


def _compile(text: str, headers: Path, macros: Mapping[str, str | int]) -> Compiled:
    bcc = _import_bcc()

    class _Unattached(bcc.BPF):  # type: ignore[misc, name-defined]
        def _trace_autoload(self) -> None:
            """Attach nothing by itself."""

    os.environ[HEADERS] = str(headers)
    flags = [*FLAGS, *(f"-D{name}={value}" for name, value in macros.items())]
    try:
        compiled = _Unattached(text=text.encode(), cflags=flags)
    except Exception as error:
        raise EnvironmentRefusal(
            f"the BPF programs could not be set up: {_reason(error, said_so_far())}",
            "run as root; `kleaktrace doctor` shows what this kernel refuses",
        ) from error
    return Compiled(_programs(bcc.lib, compiled), _compiler_files())


def _programs(lib: Any, compiled: Any) -> Programs:
    module = compiled.module
    names = [lib.bpf_table_name(module, number) for number in range(lib.bpf_num_tables(module))]
    maps = [
        MapSpec(
            name.decode(),
            lib.bpf_table_type_id(module, number),
            lib.bpf_table_key_size_id(module, number),
            lib.bpf_table_leaf_size_id(module, number),
            lib.bpf_table_max_entries_id(module, number),
            lib.bpf_table_flags_id(module, number),
        )
        for number, name in enumerate(names)
    ]
    fds = [lib.bpf_table_fd(module, name) for name in names]
    functions = [lib.bpf_function_name(module, number) for number in range(lib.bpf_num_functions(module))]
    return Programs(
        license=lib.bpf_module_license(module).decode(),
        maps=tuple(maps),
        functions={_short(name.decode()): unbound(compiled.dump_func(name), fds) for name in functions},
    )


def _short(function: str) -> str:
    """The function's name without what newer bcc puts in for fentry and fexit (helpers.h, KFUNC_PROBE)."""
    return function.replace("func__vmlinux__", "func__")


def _compiler_files() -> list[str]:
    """The libraries that compile, once they are loaded."""
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    return sorted(path for path in mapped if _COMPILER.search(path))


def attach_kprobe(program_fd: int, target: str, at_return: bool) -> Callable[[], None]:
    """Run a program when a kernel function is entered, or returns; how to undo it. Raises `OSError`."""
    lib = _import_bcc().lib
    # libbcc's name for the event, where it must be made by way of tracefs
    event = f"{'r' if at_return else 'p'}_{target}".replace(".", "_").encode()
    with _quiet_stderr() as said:
        fd = lib.bpf_attach_kprobe(program_fd, int(at_return), event, target.encode(), 0, 0)
        if fd < 0:
            raise OSError(_reason(OSError(f"no kprobe at {target}"), said()))

    def undo() -> None:
        with _quiet_stderr():
            lib.bpf_close_perf_event_fd(fd)
            lib.bpf_detach_kprobe(event)

    return undo


def has_kprobes() -> bool:
    """Whether libbcc will find a way to attach one."""
    return any(path.exists() for path in _KPROBES)


_BCC_PREAMBLE = re.compile(r"^Failed to attach BPF program b'\w+' to (kprobe|kretprobe) b'\w+', (it's )?|^bpf: ")


def _reason(error: Exception, said: str) -> str:
    """The kernel's own words if libbcc passed them on, else the exception's."""
    for line in reversed(said.splitlines()):
        if "error:" in line or "Permission denied" in line or "failed" in line.lower():
            text = line
            break
    else:
        text = str(error) or last_line(said) or type(error).__name__
    return _BCC_PREAMBLE.sub("", " ".join(text.split()))[:300]
