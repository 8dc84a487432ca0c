# SPDX-License-Identifier: GPL-2.0-or-later
"""Has the kernel let go of entries in /sys and /proc that are gone, and whose names it still remembers.

Who looks up a path leaves its names behind (dcache), and with a name the inode, which holds what it stands for: so an
attribute that was read, and whose device is gone since, stays allocated until memory is short or somebody asks for it
again. Then the kernel sees that it is gone, and drops it with all below it (fs/kernfs/dir.c, `kernfs_dop_revalidate`;
fs/proc/generic.c, `proc_misc_d_revalidate`; fs/dcache.c, `d_invalidate`). So it is asked for.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kleaktrace.core.events.records import hide
from kleaktrace.edge.bpf.btf import Btf
from kleaktrace.edge.tracing.object_reader import Read

_LOG = logging.getLogger(__name__)

_WORD = 8
_LONGEST_NAME = 256  # NAME_MAX, and its end
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class EntryKind:
    """What stands for an entry of a file system: who allocates it, and members of its structure."""

    made_by: str
    struct: str
    parent: tuple[str, ...]
    """Its names in kernels of any age."""
    mount: Path


KINDS = (
    EntryKind("kernfs_new_node", "kernfs_node", ("parent", "__parent"), Path("/sys")),
    EntryKind("proc_create", "proc_dir_entry", ("parent",), Path("/proc")),
)


class EntryPaths:
    """Finds the paths of entries of one kind. Reads memory that may be freed meanwhile: a path may be any."""

    def __init__(self, kind: EntryKind, btf: Btf, read: Read) -> None:
        self._mount, self._read = kind.mount, read
        parents = (btf.offset(kind.struct, name) for name in kind.parent)
        self._parent = next((offset for offset in parents if offset is not None), None)
        self._name = btf.offset(kind.struct, "name")

    def of(self, address: int) -> Path | None:
        """The path that this one (plain address) had; None: it can't be told."""
        names: list[str] = []
        while len(names) < _DEEPEST:
            parent, name = self._word(address, self._parent), self._text(self._word(address, self._name))
            if not parent or parent == address:  # the root, whose name is that of the file system
                return self._mount.joinpath(*reversed(names))
            if name in ("", ".", "..") or "/" in name:
                return None
            names.append(name)
            address = parent
        return None

    def _word(self, address: int, offset: int | None) -> int:
        words = [] if offset is None else self._read([(hide(address + offset), _WORD)])
        return hide(words[0].item()) if len(words) and words[0].size else 0

    def _text(self, address: int) -> str:
        (words,) = self._read([(hide(address), _LONGEST_NAME)]) if address else (np.zeros(0, np.uint64),)
        return (~words).tobytes().partition(b"\0")[0].decode(errors="replace")


def let_go(entries: Sequence[tuple[str, int]], btf: Btf, read: Read) -> None:
    """Ask for entries that are gone: by the function that has allocated each, and its hidden address."""
    kinds = {kind.made_by: EntryPaths(kind, btf, read) for kind in KINDS}
    paths = {path for made_by, hidden in entries if (path := kinds[made_by].of(hide(hidden))) is not None}
    for path in sorted(paths):
        _LOG.debug("asking for %s, which is gone", path)
        with contextlib.suppress(OSError, ValueError):
            path.lstat()
