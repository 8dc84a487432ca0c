# SPDX-License-Identifier: GPL-2.0-or-later
"""A source of events that the test makes up: what a session needs of the running kernel, without one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from builders import FULL_COVERAGE, HZ, START_JIFFIES, kernel_names, rows

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.clock import Moment
from kleaktrace.core.events.coverage import Coverage, StackCheck
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Kind, hide
from kleaktrace.core.report import Kernel
from kleaktrace.core.symbols.kernel_names import KernelNames

NOTHING = Batch(rows(ALLOCATION), rows(FREE))


class MadeUpSource:
    """Reports what `allocate` and `free` say, one event a poll. `fail`: what the next poll raises."""

    kernel = Kernel("6.12.0-made-up", "x86_64")
    processors = 3
    coverage: tuple[Coverage, ...] = FULL_COVERAGE
    context_source = "made up"
    stack_check = StackCheck()
    reads_objects = Coverage("object-contents", "made up")
    backlog = 0.0

    def __init__(self, names: KernelNames | None = None) -> None:
        self.names = names or kernel_names()
        self.started = Moment(time.monotonic_ns(), START_JIFFIES)
        self.last = self.started
        """When the last event was."""
        self.loss = Loss()
        self.fail: BaseException | None = None
        self.polled = 0
        self.closed = self.paused = 0
        self.before_poll: Callable[[], None] = lambda: None
        self.contents: dict[int, U64] = {}
        self.in_sheaves: list[int] | None = []
        """Hidden addresses that sheaves point to; None: they can't be read."""
        self._reported: list[Batch] = []
        self._awake = threading.Event()

    @property
    def reported(self) -> int:
        return len(self._reported)

    def now(self) -> dict[str, int]:
        self.last = self.moment()
        return {"time_ns": self.last.time_ns, "jiffies": self.last.jiffies % (1 << 32)}

    def allocate(self, address: int, size: int = 100, **fields: object) -> None:
        row = {"sequence": self.reported, "object": hide(address), "bytes_req": size, "bytes_alloc": 128, "stack": 1}
        row |= {"kind": Kind.KMALLOC, "tid": 42, "tgid": 42, "comm": b"insmod", **self.now(), **fields}
        self._reported.append(Batch(rows(ALLOCATION, row), rows(FREE)))

    def free(self, address: int, **fields: object) -> None:
        row = {"sequence": self.reported, "object": hide(address), "kind": Kind.KMALLOC, **self.now(), **fields}
        self._reported.append(Batch(rows(ALLOCATION), rows(FREE, row)))

    def poll(self) -> Batch:
        self.before_poll()
        if self.fail is not None:
            raise self.fail
        if self.polled == self.reported:
            return NOTHING
        self.polled += 1
        return self._reported[self.polled - 1]

    def wait(self, seconds: float) -> None:
        self._awake.wait(min(seconds, 0.01))

    def wake(self) -> None:
        self._awake.set()

    def pause(self) -> None:
        self.paused += 1

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def moment(self) -> Moment:
        time_ns = time.monotonic_ns()
        return Moment(time_ns, START_JIFFIES + (time_ns - self.started.time_ns) * HZ // 1_000_000_000)

    def check_loss(self) -> Loss:
        return self.loss

    def read_objects(self, objects: Sequence[tuple[int, int]]) -> list[U64]:
        return [self.contents.get(address, np.zeros(0, np.uint64)) for address, _ in objects]

    def handed_out(self) -> U64 | None:
        return None if self.in_sheaves is None else np.array(self.in_sheaves, np.uint64)

    def free_before(self, address: int) -> int:
        raise OSError("made up")

    def close(self) -> None:
        self.closed += 1
