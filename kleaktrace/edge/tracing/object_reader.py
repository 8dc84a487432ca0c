# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what objects hold, by a BPF program that copies them one by one (bpf/objects.c)."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence

import numpy as np

from kleaktrace.core.arrays.types import U64
from kleaktrace.edge.bpf.bpf_object import BpfObject
from kleaktrace.edge.tracing.abi import CONTENTS_WORDS

_WORD = 8
MOST_BYTES = CONTENTS_WORDS * _WORD
"""Of each object."""

Read = Callable[[Sequence[tuple[int, int]]], Sequence[U64]]
"""As `ObjectReader.read`."""

_PROGRAM, _MAP = "read_object", "contents"


class ObjectReader:
    """Reads kernel memory of objects. Nothing is loaded or mapped until it is asked to."""

    def __init__(self, bpf: BpfObject) -> None:
        self._bpf = bpf
        self._mapped: mmap.mmap | None = None

    def refusal(self) -> str:
        """Why nothing can be read on this kernel; empty if it can."""
        try:
            self._bpf.run(_PROGRAM, 0, 0)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def read(self, objects: Sequence[tuple[int, int]]) -> list[U64]:
        """For each object (hidden address, bytes) the complements of its words; see `Tracer.read_objects`."""
        if self._mapped is None:
            if not objects or self.refusal():
                return [np.zeros(0, np.uint64) for _ in objects]
            self._mapped = mmap.mmap(self._bpf.map_fd(_MAP), MOST_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        return [self._words(self._mapped, address, size) for address, size in objects]

    def _words(self, mapped: mmap.mmap, address: int, size: int) -> U64:
        length = min(-(-size // _WORD) * _WORD, MOST_BYTES)
        if not self._bpf.run(_PROGRAM, address, length):
            length = 0
        return np.frombuffer(mapped[:length], np.uint64)

    def close(self) -> None:
        """Unmap. May be called twice."""
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None
