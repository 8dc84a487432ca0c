# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiled programs kept from one start to the next: clang takes half of a start, and most of its processor time.

What is kept goes into the kernel. So it is only taken from a directory that is root's and closed to everyone else,
and it is whole, of these very sources and macros, this kernel, and by a compiler that has not been replaced
since. Anything else is compiled anew, and nobody is bothered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kleaktrace.edge.bpf import bcc_library
from kleaktrace.edge.bpf.compiled_programs import FORMAT, Programs, decoded, encoded
from kleaktrace.errors import EnvironmentRefusal

TRACER = (
    *("base.h", "records.h", "maps.h", "common.h", "stack_paths.h", "stacks.h", "events.h"),
    *("slab.c", "vmalloc.c", "percpu.c", "pages.c", "modules.c", "objects.c", "exec.c"),
)
"""The sources of what traces; they are compiled as one."""

INJECTION = ("base.h", "inject.c")
"""Those of what makes allocations fail."""

_MOST_FILES = 32
"""Each about 100 kB. There is one for each set of options that are compiled in."""

_LOG = logging.getLogger(__name__)

_FILE_LIMIT = 16 << 20
_ROOT = 0
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class _Unusable(Exception):
    """The cache can't be used; the text says why."""


def source_directory() -> Path:
    """Where the C sources are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    for candidate in (package / "bpf", package.parent / "bpf"):
        if (candidate / "records.h").exists():
            return candidate
    raise EnvironmentRefusal(
        "the BPF sources are missing from this installation", "install kleaktrace again: pip install ."
    )


def cache_directory() -> Path:
    """Where programs are kept."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home.startswith("/") else Path("/var/cache")
    return base / "kleaktrace" / "programs"


def compiled_programs(
    macros: Mapping[str, str | int], names: Sequence[str] = TRACER, compiling: Callable[[], None] = lambda: None
) -> Programs:
    """Our C sources of these names, compiled with `macros`; what the cache has, else what goes into it.

    compiling: called before they are compiled, which takes seconds, and on a slow machine a minute.
    Raises `EnvironmentRefusal` when they have to be compiled, and can't be.
    """
    sources = source_directory()
    key = _key(sources, macros, names)
    kept = _load(key)
    if kept is not None:
        _LOG.info("programs %s are kept from an earlier start", key[:12])
    else:
        compiling()
        begun = time.monotonic()
        text = "\n".join((sources / name).read_text() for name in names)
        kept, compiler = bcc_library.compile_programs(text, sources / "shim", macros)
        _LOG.info("programs %s were compiled in %.2f s", key[:12], time.monotonic() - begun)
        _store(key, kept, compiler)
    return kept


def trouble() -> str:
    """Why nothing can be kept on this machine; empty if it can."""
    try:
        with _directory(make=True) as directory:
            os.close(_create(directory, "try"))
            os.unlink("try", dir_fd=directory)
    except _Unusable as reason:
        return str(reason)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _key(sources: Path, macros: Mapping[str, str | int], names: Sequence[str]) -> str:
    """Of everything that decides what clang makes, but itself. bcc also asks the kernel what it can do."""
    system = os.uname()
    given = {
        "format": FORMAT.decode(),
        "flags": bcc_library.FLAGS,
        "compiled": list(names),
        "macros": sorted((name, str(value)) for name, value in macros.items()),
        "kernel": (system.release, system.version, system.machine),
        "settings": sorted(
            (name, value)
            for name, value in os.environ.items()
            if name.startswith("BCC_") and name != bcc_library.HEADERS
        ),
        "sources": [(str(path.relative_to(sources)), path.read_text()) for path in sorted(sources.rglob("*.[ch]"))],
    }
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()


def _state(path: str) -> list[str | int]:
    """A file of the compiler's as it is now: path, bytes, time of the last change (ns)."""
    found = Path(path).stat()
    return [path, found.st_size, found.st_mtime_ns]


def _load(key: str) -> Programs | None:
    try:
        with _directory(make=False) as directory:
            programs, origin = decoded(_read(directory, key))
        if origin["key"] == key and origin["compiler"] and all(_state(was[0]) == was for was in origin["compiler"]):
            return programs
    except (OSError, ValueError, TypeError, LookupError, _Unusable):
        pass  # compile, then
    return None


def _store(key: str, programs: Programs, compiler: Sequence[str]) -> None:
    """Keep programs if that is possible. `trouble` tells why it is not."""
    with contextlib.suppress(OSError, _Unusable):
        content = encoded(programs, {"key": key, "compiler": [_state(path) for path in compiler]})
        with _directory(make=True) as directory:
            # Two that start at once may compile the same: each has a file of its own until it is whole.
            name = f"{key}.{os.getpid()}"
            fd = _create(directory, name)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(content)
                os.rename(name, key, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                os.unlink(name, dir_fd=directory)
                raise
            _drop_old(directory)


def _create(directory: int, name: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)  # of a process of this number that was killed
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)


def _drop_old(directory: int) -> None:
    times = {name: os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns for name in os.listdir(directory)}
    for name in sorted(times, key=lambda name: times[name])[:-_MOST_FILES]:
        os.unlink(name, dir_fd=directory)


@contextmanager
def _directory(make: bool) -> Iterator[int]:
    """The cache's directory, open. Raises `OSError`, and `_Unusable` if others can get at it."""
    path = cache_directory()
    if make:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _require_private(fd, stat.S_ISDIR)
        yield fd
    finally:
        os.close(fd)


def _read(directory: int, name: str) -> bytes:
    with open(name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, dir_fd=directory)) as file:
        _require_private(file.fileno(), stat.S_ISREG)
        return file.read(_FILE_LIMIT)


def _require_private(fd: int, is_kind: Callable[[int], bool]) -> None:
    """Of the open file itself, which nobody can put another one in place of."""
    found = os.fstat(fd)
    if found.st_uid != _ROOT:
        raise _Unusable("it is not root's")
    if not is_kind(found.st_mode) or found.st_mode & _OTHERS:
        raise _Unusable("others than root have a right to it")
