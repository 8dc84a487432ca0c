# SPDX-License-Identifier: GPL-2.0-or-later
"""Frees kmemleak's sight of objects from what slab caches leave in their sheaves (mm/slub.c, `struct slab_sheaf`).

A CPU takes objects from the end of an array of pointers, a sheaf (since v6.18, of all caches since v7.0), and leaves
there what it has taken. kmemleak, which scans sheaves as it scans all that was kmalloced, takes that for references: so
the latest leaks of each cache and CPU are not listed (7.3 in a guest, where each way to leak is gone four times: seven
ways of thirty were not listed once).

The kernel frees a sheaf that no CPU takes from when it shrinks the cache, and a CPU whose sheaf is empty takes from
another one, which is a new one after that. So caches are shrunk, each CPU takes an object, and caches are shrunk again.
Objects that anybody can take are those of kmallocs, accounted ones too, of memdup_user, and skbs with their data. In
other caches old pointers stay until somebody takes or frees some: edge/tracing/sheaf_reader.py tells which they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from kleaktrace.edge.bpf.compiled_programs import MapSpec
from kleaktrace.edge.bpf.libbpf import create_map, lookup
from kleaktrace.edge.machine.cpus import on_each_cpu
from kleaktrace.edge.machine.system_call import system_call

CACHES = Path("/sys/kernel/slab")

_LOG = logging.getLogger(__name__)

_ARRAY = 2  # include/uapi/linux/bpf.h
_KEY = bytes(4)

_SETGROUPS = {"x86_64": 116, "aarch64": 159}
_ADD_KEY = {"x86_64": 248, "aarch64": 217}

_SKBS = 80
"""More than a CPU keeps aside (net/core/skbuff.c, `NAPI_SKB_CACHE_SIZE`)."""

_NO_REQUEST = struct.pack("=LHHLL", 16, 1, 4, 0, 0)
"""NLMSG_NOOP with NLM_F_ACK (include/uapi/linux/netlink.h): nobody looks at it, and it is answered."""

Take = Callable[[], object]
"""Has the CPU that we run on take an object, and sooner or later give it back."""


def scrub_sheaves(caches: Path = CACHES) -> int:
    """Have the kernel give back sheaves with old pointers, as far as it lets us; returns how many caches have any."""
    found = list(caches_with_sheaves(caches))
    try:
        for cache in found:
            _shrink(cache)
        # Groups are those of a thread: it ends with them.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_take_on_each_cpu, found, names_of_caches(caches)).result()
        for cache in found:
            _shrink(cache)
    except (OSError, ValueError) as error:
        _LOG.info("sheaves of slab caches were not given back: %s", error)
    return len(found)


def caches_with_sheaves(caches: Path = CACHES) -> Iterator[Path]:
    """Directories of caches; of merged ones there are links, too: see `names_of_caches`. Modules' ones may go."""
    for capacity in sorted(caches.glob("*/sheaf_capacity")):
        with contextlib.suppress(OSError, ValueError):
            if not capacity.parent.is_symlink() and int(capacity.read_text()):
                yield capacity.parent


def _shrink(cache: Path) -> None:
    with contextlib.suppress(OSError):  # its module was unloaded
        (cache / "shrink").write_text("1")


def _take_on_each_cpu(caches: Sequence[Path], names: Mapping[Path, Sequence[str]]) -> None:
    """Take one object of each on each CPU that we may use, at once after it was shrunk, and give it back.

    Who frees one there in between puts it into the old sheaf, which is not replaced then.
    """
    with contextlib.ExitStack() as stack:
        takes: dict[Path, Take] = {}
        for cache in caches:
            with _refused(cache):
                take = take_of(cache, names.get(cache, ()), stack)
                takes |= {} if take is None else {cache: take}
        for _ in on_each_cpu():
            for cache, take in takes.items():
                _shrink(cache)
                with _refused(cache):
                    take()


@contextlib.contextmanager
def _refused(cache: Path) -> Iterator[None]:
    """What we may not do for one cache does not keep us from the others."""
    try:
        yield
    except (OSError, ValueError) as error:
        _LOG.info("no object of %s was taken: %s", cache.name, error)


def names_of_caches(caches: Path = CACHES) -> dict[Path, list[str]]:
    """The names of each: merged ones are links to a cache that nobody has named (mm/slub.c, `sysfs_slab_alias`)."""
    names: dict[Path, list[str]] = {}
    for entry in sorted(caches.iterdir()):
        names.setdefault(caches / entry.readlink() if entry.is_symlink() else entry, []).append(entry.name)
    return names


def take_of(cache: Path, names: Sequence[str], stack: contextlib.ExitStack) -> Take | None:
    """How objects of the cache with these names are taken; None: there is no way for everybody."""
    ways = (way for pattern, way in _WAYS if any(map(pattern.fullmatch, names)))
    return next((way(int((cache / "object_size").read_text()), stack) for way in ways), None)


def _look_up(size: int, stack: contextlib.ExitStack) -> Take:
    """A look-up in a BPF map takes one of the size of its values (kernel/bpf/syscall.c, `map_lookup_elem`)."""
    fd = create_map(MapSpec("kleaktrace_take", _ARRAY, 4, size, 1, 0))
    stack.callback(os.close, fd)
    return lambda: lookup(fd, _KEY, size)


def _set_groups(size: int, _: contextlib.ExitStack) -> Take:
    """A thread's groups are accounted to its cgroup: two words, and one for each (kernel/groups.c, `groups_alloc`).

    The C library's function sets those of all threads.
    """
    count = (size - 8) // 4
    return partial(system_call, _SETGROUPS, count, (ctypes.c_uint32 * count)())


def _name_key(size: int, _: contextlib.ExitStack) -> Take:
    """The name of a key is duplicated before it is asked whether keyring 0 is there, which never is (keys/keyctl.c)."""

    def take() -> None:
        with contextlib.suppress(OSError):
            system_call(_ADD_KEY, b"user", b"k" * (size - 1), None, ctypes.c_size_t(0), 0)

    return take


def _queue_skbs(_: int, stack: contextlib.ExitStack) -> Take:
    """Each byte that waits in a Unix socket is an skb, first those that a CPU keeps aside (net/unix/af_unix.c)."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (sender, receiver):
        stack.enter_context(end)

    def take() -> None:
        for _ in range(_SKBS):
            sender.send(b"x")
        receiver.recv(_SKBS)

    return take


def _ask_nothing(_: int, stack: contextlib.ExitStack) -> Take:
    """Netlink's answer is small and not accounted, as data of Unix sockets is (net/netlink/af_netlink.c)."""
    asking = stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
    asking.setblocking(False)

    def take() -> None:
        asking.send(_NO_REQUEST)
        asking.recv(4096)

    return take


_WAYS: tuple[tuple[re.Pattern[str], Callable[[int, contextlib.ExitStack], Take]], ...] = (
    (re.compile(r"kmalloc-\d+k?"), _look_up),
    (re.compile(r"kmalloc-cg-\d+k?"), _set_groups),
    (re.compile(r"memdup_user-\d+k?"), _name_key),
    (re.compile(r"skbuff_head_cache"), _queue_skbs),
    (re.compile(r"skbuff_small_head"), _ask_nothing),
)
