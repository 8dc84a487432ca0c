# SPDX-License-Identifier: GPL-2.0-or-later
"""Frees kmemleak's sight of large kmallocs from what slabs left in the descriptions of free pages.

A slab keeps its list of free objects in `struct page`, where a file's page has its index, and nobody clears that word
when the slab's pages are given back. kmemleak scans the `struct page` of every page in use (mm/kmemleak.c,
`kmemleak_scan`). So a large kmalloc on pages that once were a slab is referenced by its own description, and is not
listed. Setting up a tracer leaves thousands of such pages behind (6.12 in a guest: 4 of 16 leaked large kmallocs listed
after it, each of the other 12 had such a word; all of 64 listed after the words had been overwritten).

It is overwritten by passing the free pages through a file in memory. It has to be ramfs: its pages are unmovable ones,
as a slab's are. What waits on the CPUs' own lists of blocks is not reached by single pages, so each CPU is made to give
these back before, and is left with passed ones after it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kleaktrace.edge.machine.cpus import on_each_cpu
from kleaktrace.edge.machine.meminfo import available_memory
from kleaktrace.edge.machine.system_call import system_call

PAGETYPEINFO = Path("/proc/pagetypeinfo")

_LOG = logging.getLogger(__name__)

_MIB = 1 << 20
_MOST = 512 << 20
_SHARE = 4
"""At most one part in so many of what is available, here and in our cgroups."""

_CHUNK = bytes(1 << 20)

_BLOCK = bytes(8 * os.sysconf("SC_PAGE_SIZE"))
"""The largest that CPUs have lists of (include/linux/mmzone.h, PAGE_ALLOC_COSTLY_ORDER). Sent to a Unix socket in one
piece, it is kept in one (net/unix/af_unix.c, `unix_stream_sendmsg`)."""

_BLOCKS = 128
"""More than a CPU keeps. Who gives back so many in a row makes it give back what else it has (mm/page_alloc.c,
`nr_pcp_free`)."""

# include/uapi/asm-generic/unistd.h: the same on all architectures
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSCONFIG_CMD_CREATE = 6
_CLOEXEC = 1
_SO_SNDBUFFORCE = 32  # include/uapi/asm-generic/socket.h


def scrub_freelists() -> int:
    """Pass free pages through a file in memory that nobody else sees; returns the bytes passed.

    As much as is free among the unmovable pages, within bounds that leave others in peace; 0 if the kernel
    does not tell or does not let us: then kmemleak sees as little as without us.
    """
    try:
        size = min(_free_unmovable(PAGETYPEINFO.read_text()), _MOST, available_memory() // _SHARE)
        _empty_lists_of_cpus()
        with _file_in_memory() as fd:
            passed = _fill(fd, size)
        _empty_lists_of_cpus()
    except (OSError, ValueError) as error:
        _LOG.info("free pages were not passed through a file: %s", error)
        return 0
    _LOG.info("%.1f of %.1f MiB of free pages were passed through a file", passed / _MIB, size / _MIB)
    return passed


def _free_unmovable(pagetypeinfo: str) -> int:
    """Bytes free in the unmovable page blocks of all zones (mm/vmstat.c, `pagetypeinfo_showfree`)."""
    pages = 0
    for line in pagetypeinfo.splitlines():
        head, unmovable, counts = line.partition("type    Unmovable")
        if unmovable and head.startswith("Node"):
            # beyond a bound, the kernel stops counting and says so
            pages += sum(int(count.lstrip(">")) << order for order, count in enumerate(counts.split()))
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def _file_in_memory() -> Iterator[int]:
    """A file on a ramfs that is mounted nowhere, and gone with its last descriptor (fsopen(2), since 5.2)."""
    with contextlib.ExitStack() as stack:
        context = system_call(_FSOPEN, b"ramfs", _CLOEXEC)
        stack.callback(os.close, context)
        system_call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mount = system_call(_FSMOUNT, context, _CLOEXEC, 0)
        stack.callback(os.close, mount)
        fd = os.open("pages", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=mount)
        stack.callback(os.close, fd)
        yield fd


def _fill(fd: int, size: int) -> int:
    return sum(os.write(fd, _CHUNK) for _ in range(size // len(_CHUNK)))


def _empty_lists_of_cpus() -> None:
    """Have each CPU that we may use take more blocks of pages than it keeps, and give them back."""
    for _ in on_each_cpu():
        _take_and_give_back()


def _take_and_give_back() -> None:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with sender, receiver:
        sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 4 * _BLOCKS * len(_BLOCK))
        sender.setblocking(False)
        for _ in range(_BLOCKS):
            sender.send(_BLOCK)
        # What is unread is freed with its receiver, by this CPU.
