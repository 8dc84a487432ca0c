# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells the kernel side how to recognise the stacks it unwinds again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from kleaktrace.core.unwind.stack_paths import Change, Lead, Slot, StackPath, StackPaths, StackSample
from kleaktrace.edge.bpf.bpf_object import BpfObject
from kleaktrace.edge.tracing.abi import FROM_END, PATH_SLOT, PATH_SLOTS, STACK_PATH

_LOG = logging.getLogger(__name__)

MOST_PATHS = 8192
_MAP = "stack_paths"

_SIZE = STACK_PATH.size + PATH_SLOTS * PATH_SLOT.size

_SHARE = 40
"""At most one part in so many of the time goes into learning…"""

_HEAD_START_NS = 500_000_000
"""…after so much processor time at the start, when all is new."""


class StackPathWriter:
    """Learns from samples, within a bound on processor time, and writes paths to the kernel side."""

    def __init__(self, bpf: BpfObject, kernel_text: range, signed_bits: int) -> None:
        self._bpf = bpf
        self._paths = StackPaths(MOST_PATHS, kernel_text, signed_bits)
        self._written: set[bytes] = set()
        self._began_ns = time.monotonic_ns()
        self._spent_ns = 0

    def __len__(self) -> int:
        """How many stacks the kernel side can recognise."""
        return len(self._written)

    def learn(self, sample: StackSample) -> None:
        """Take a sample, if there is time: what is worth it will be sampled again."""
        if self._spent_ns > _HEAD_START_NS + (time.monotonic_ns() - self._began_ns) // _SHARE:
            return
        begun_ns = time.thread_time_ns()
        self._apply(self._paths.learn(sample))
        self._spent_ns += time.thread_time_ns() - begun_ns

    def _apply(self, change: Change) -> None:
        if change.forget:
            for key in self._written:
                self._bpf.delete(_MAP, key)
            self._written.clear()
        for path in change.paths:
            key = path.key.to_bytes(8, "little")
            if self._bpf.write(_MAP, key, _encoded(path)):
                self._written.add(key)
        if change.paths:
            _LOG.debug("%d stacks learned, %d known", len(change.paths), len(self._written))


def _encoded(path: StackPath) -> bytes:
    slots = b"".join(PATH_SLOT.pack(*fields) for fields in _fields(path.slots))
    return (STACK_PATH.pack(path.stack, len(path.slots), path.in_module, 0, path.cut, 0) + slots).ljust(_SIZE, b"\0")


def _fields(slots: Sequence[Slot]) -> Iterator[tuple[int, int, int, int]]:
    """address, offset, lead, end (bpf/stack_paths.h, struct path_slot)."""
    before = 0  # bytes from the origin to the slot before
    for slot in slots:
        distance = slot.way.distance * 8
        if slot.way.lead is Lead.FROM_END:
            yield slot.address, -distance, FROM_END, before
            before = 0
            continue
        end = before + slot.end * 8 if slot.end else 0
        yield slot.address, before + distance, slot.way.lead * 8, end
        before = 0 if slot.way.lead else before + distance
