"""The only module that talks to bcc, which has no type stubs and reports trouble on standard error.

bcc (iovisor/bcc, src/python/bcc/__init__.py) attaches every function with a telling name as soon as an object is
made; we attach one by one, because a refused probe has a fallback.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kleaktrace.errors import EnvironmentRefusal

_SOURCES = (
    *("records.h", "maps.h", "common.h", "stack_paths.h", "stacks.h", "events.h"),
    *("slab.c", "vmalloc.c", "percpu.c", "modules.c"),
)


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


# include/uapi/linux/bpf.h
_ARRAY, _MMAPABLE = 2, 1 << 10


class _RunOptions(ctypes.Structure):
    """struct bpf_test_run_opts (tools/lib/bpf/bpf.h)."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        *((name, ctypes.c_void_p) for name in ("data_in", "data_out")),
        *((name, ctypes.c_uint32) for name in ("data_size_in", "data_size_out")),
        *((name, ctypes.c_void_p) for name in ("ctx_in", "ctx_out")),
        *((name, ctypes.c_uint32) for name in ("ctx_size_in", "ctx_size_out", "retval")),
        ("repeat", ctypes.c_int),
        *((name, ctypes.c_uint32) for name in ("duration", "flags", "cpu", "batch_size")),
    )


class AttachRefused(Exception):
    """The kernel did not take a probe; the text is its reason, in one line."""


def source_directory() -> Path:
    """Where the C sources are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "bpf", package.parent / "bpf"):
        if (candidate / "records.h").exists():
            return candidate
    raise EnvironmentRefusal(
        "the BPF sources are missing from this installation", "install kleaktrace again: pip install ."
    )


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


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _import_bcc() -> Any:
    # Here and not above: it loads LLVM, which only tracing needs.
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
    return bcc


def bcc_version() -> str:
    """The version of the distribution's bcc. Raises `EnvironmentRefusal` if it can't be used."""
    return str(getattr(_import_bcc(), "__version__", "unknown"))


class BpfObject:
    """Our C sources, compiled with `macros`, not attached to anything yet.

    Raises `EnvironmentRefusal` when they can't be compiled or the kernel refuses the maps.
    """

    def __init__(self, macros: dict[str, str | int]) -> None:
        self._bcc: Any = _import_bcc()

        class _Unattached(self._bcc.BPF):  # type: ignore[misc, name-defined]
            def _trace_autoload(self) -> None:
                """Attach nothing by itself."""

        directory = source_directory()
        text = "\n".join((directory / name).read_text() for name in _SOURCES)
        os.environ["BCC_KERNEL_SOURCE"] = str(directory / "shim")
        flags = ["-w", *(f"-D{name}={value}" for name, value in macros.items())]
        with _quiet_stderr() as said:
            try:
                self._bpf: Any = _Unattached(text=text.encode(), cflags=flags)
            except Exception as error:
                raise EnvironmentRefusal(
                    f"the BPF programs could not be set up: {_reason(error, said())}",
                    "run as root; `kleaktrace doctor` shows what this kernel refuses",
                ) from error
        self._undo: list[Callable[[], object]] = []

    def _attach(self, attach: Callable[[], object], undo: Callable[[], object]) -> None:
        with _quiet_stderr() as said:
            try:
                attach()
            except Exception as error:
                raise AttachRefused(_reason(error, said())) from error
        self._undo.append(undo)

    @property
    def attached(self) -> int:
        """How many programs are attached; what `detach_to` takes."""
        return len(self._undo)

    def detach_to(self, count: int) -> None:
        """Detach what was attached last, until `count` programs are left."""
        with _quiet_stderr():
            while len(self._undo) > count:
                self._undo.pop()()

    def attach_raw_tracepoint(self, event: str, *functions: str) -> None:
        """Run the functions at a raw tracepoint, in this order."""
        for function in functions:
            fds: list[int] = []
            self._attach(
                lambda function=function, fds=fds: fds.append(self._attach_raw(event, function)),  # type: ignore[misc]
                lambda fds=fds: os.close(fds[0]),  # type: ignore[misc]
            )

    def _attach_raw(self, event: str, function: str) -> int:
        # bcc's own method allows one function per event
        loaded = self._bpf.load_func(function.encode(), self._bcc.BPF.RAW_TRACEPOINT)
        fd = int(self._bcc.lib.bpf_attach_raw_tracepoint(loaded.fd, event.encode()))
        if fd < 0:
            raise OSError(f"raw tracepoint {event}: {os.strerror(ctypes.get_errno() or -fd)}")
        return fd

    def attach_fentry(self, target: str) -> None:
        """Run `kfunc__TARGET` whenever the kernel function `target` is entered."""
        name = f"kfunc__{target}".encode()
        self._attach(lambda: self._bpf.attach_kfunc(fn_name=name), lambda: self._bpf.detach_kfunc(fn_name=name))

    def attach_fexit(self, target: str) -> None:
        """Run `kretfunc__TARGET` whenever the kernel function `target` returns."""
        name = f"kretfunc__{target}".encode()
        self._attach(lambda: self._bpf.attach_kretfunc(fn_name=name), lambda: self._bpf.detach_kretfunc(fn_name=name))

    def attach_kprobe(self, target: str, function: str) -> None:
        """Run `function` whenever the kernel function `target` is entered."""
        _require_kprobes()
        event, name = target.encode(), function.encode()
        self._attach(
            lambda: self._bpf.attach_kprobe(event=event, fn_name=name), lambda: self._bpf.detach_kprobe(event, name)
        )

    def attach_kretprobe(self, target: str, function: str) -> None:
        """Run `function` whenever the kernel function `target` returns."""
        _require_kprobes()
        event, name = target.encode(), function.encode()
        self._attach(
            lambda: self._bpf.attach_kretprobe(event=event, fn_name=name),
            lambda: self._bpf.detach_kretprobe(event, name),
        )

    def map_fd(self, name: str) -> int:
        """File descriptor of a map."""
        return int(self._bpf[name.encode()].map_fd)

    def per_cpu_totals(self, name: str, length: int) -> list[int]:
        """Sums over all CPUs of the first `length` counters of a per-CPU array of u64."""
        table = self._bpf[name.encode()]
        return [sum(table[table.Key(index)]) for index in range(length)]

    def set_array(self, name: str, index: int, fields: dict[str, int]) -> None:
        """Write one structure of an array map."""
        table = self._bpf[name.encode()]
        leaf = table.Leaf()
        for field, value in fields.items():
            setattr(leaf, field, value)
        table[table.Key(index)] = leaf

    def set_number(self, name: str, index: int, value: int) -> None:
        """Write one number of an array map."""
        table = self._bpf[name.encode()]
        table[table.Key(index)] = table.Leaf(value)

    def write(self, name: str, key: bytes, value: bytes) -> bool:
        """Write one element of any map; False if the kernel has no room for it."""
        return int(self._bcc.lib.bpf_update_elem(self.map_fd(name), key, value, 0)) == 0

    def delete(self, name: str, key: bytes) -> None:
        """Delete an element of a map, if it is there."""
        self._bcc.lib.bpf_delete_elem(self.map_fd(name), key)

    def read_array(self, name: str, index: int) -> dict[str, int]:
        """Read one structure of an array map, by field."""
        table = self._bpf[name.encode()]
        leaf = table[table.Key(index)]
        return {field[0]: int(getattr(leaf, field[0])) for field in leaf._fields_}

    def run(self, function: str, argument: int) -> int:
        """Run a program for raw tracepoints now, with one argument; what it returns, as u32.

        Raises OSError: the kernel does not do that (BPF_PROG_TEST_RUN, since v5.10), or refuses the program.
        """
        with _quiet_stderr() as said:
            try:
                fd = self._bpf.load_func(function.encode(), self._bcc.BPF.RAW_TRACEPOINT).fd
            except Exception as error:
                raise OSError(_reason(error, said())) from error
        arguments = (ctypes.c_uint64 * 1)(argument)
        options = _RunOptions(ctypes.sizeof(_RunOptions))
        options.ctx_in, options.ctx_size_in = ctypes.addressof(arguments), ctypes.sizeof(arguments)
        result = ctypes.CDLL("libbpf.so.1").bpf_prog_test_run_opts(fd, ctypes.byref(options))
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(options.retval)

    def missed_runs(self) -> dict[str, int]:
        """By function: how often the kernel skipped it because it was running already on that CPU.

        `recursion_misses` in /proc/self/fdinfo (kernel/bpf/syscall.c, since v5.12).
        """
        return {name.decode(): _recursion_misses(function.fd) for name, function in self._bpf.funcs.items()}

    def close(self) -> None:
        """Detach everything. May be called twice."""
        self.detach_to(0)
        with _quiet_stderr():
            self._bpf.cleanup()


def new_array(name: str, size: int) -> int:
    """File descriptor of a new array map, mapped by nobody, of so many bytes. Raises OSError.

    It can be mapped: then the kernel takes a range of vmalloc's addresses for it, one page of its own in front of
    `size` rounded up (kernel/bpf/arraymap.c, `array_map_alloc`).
    """
    library = _import_bcc().lib
    fd = int(library.bcc_create_map(_ARRAY, name.encode(), 4, mmap.PAGESIZE, -(-size // mmap.PAGESIZE), _MMAPABLE))
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"an array map of {size} bytes: {os.strerror(ctypes.get_errno())}")
    return fd


def _require_kprobes() -> None:
    """Before a program is loaded, and verified, in vain. Raises `AttachRefused`."""
    if not any(path.exists() for path in _KPROBES):
        raise AttachRefused("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)")


def _recursion_misses(fd: int) -> int:
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in info.splitlines() if line.startswith("recursion_misses:"))


_BCC_PREAMBLE = re.compile(r"^Failed to attach BPF program b'\w+' to (kprobe|kretprobe) b'\w+', (it's )?|^bpf: ")


def _reason(error: Exception, said: str) -> str:
    """The kernel's own words if libbcc passed them on, else the exception's."""
    for line in reversed(said.splitlines()):
        if "error:" in line or "Permission denied" in line or "failed" in line.lower():
            text = line
            break
    else:
        text = str(error) or _last_line(said) or type(error).__name__
    return _BCC_PREAMBLE.sub("", " ".join(text.split()))[:300]
