# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a session's events come from: the running kernel, or anything else that answers as this says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kleaktrace.core.arrays.types import U64
from kleaktrace.core.events.clock import Moment
from kleaktrace.core.events.coverage import Coverage, StackCheck
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Batch
from kleaktrace.core.report import Kernel
from kleaktrace.core.symbols.kernel_names import KernelNames


class EventSource(Protocol):
    """Batches of events with names for what they refer to. One thread, the drain's, calls `poll` and `check_loss`."""

    @property
    def kernel(self) -> Kernel:
        """Whose events these are."""

    @property
    def processors(self) -> int:
        """So many it may have; 0: not known."""

    @property
    def started(self) -> Moment:
        """Since when events are reported."""

    @property
    def names(self) -> KernelNames:
        """Names of stacks, caches, modules and programs. `poll` adds to them and takes none away."""

    @property
    def coverage(self) -> tuple[Coverage, ...]:
        """Which kinds of events are reported."""

    @property
    def context_source(self) -> str:
        """How it is known what a processor was doing when it allocated."""

    @property
    def stack_check(self) -> StackCheck:
        """How the recognised stacks fare, as of the last `check_loss`."""

    @property
    def reads_objects(self) -> Coverage:
        """Whether `read_objects` works."""

    @property
    def backlog(self) -> float:
        """How full the ring of events is, 0 to 1."""

    @property
    def reported(self) -> int:
        """How much has been reported: `polled` reaches it when everything reported by now has been polled."""

    @property
    def polled(self) -> int:
        """How much of it `poll` has returned."""

    def poll(self) -> Batch:
        """Everything reported since the last call, up to a bound; names first come into `names`."""

    def wait(self, seconds: float) -> None:
        """Return after so long, or sooner if events must be polled, or `wake` was called once."""

    def wake(self) -> None:
        """End all waiting, now and from now on."""

    def pause(self) -> None:
        """Have nothing more reported."""

    def now_ns(self) -> int:
        """Now, by the clock of the events; cheaper than `moment`."""

    def moment(self) -> Moment:
        """Now, by the clocks of the events."""

    def check_loss(self) -> Loss:
        """What was lost by now; new losses make a window that ends now."""

    def read_objects(self, objects: Sequence[tuple[int, int]]) -> list[U64]:
        """For each (hidden address, bytes), the complements of the words that the object holds now; empty: not known.

        May be called after `pause`.
        """

    def handed_out(self) -> U64 | None:
        """The hidden addresses of objects that sheaves of slab caches point to and have handed out; None: not known."""

    def free_before(self, address: int) -> int:
        """Bytes of the free range of vmalloc's addresses that ends at an address (hidden); 0 if there is none.

        Raises OSError where that can't be told.
        """

    def close(self) -> None:
        """Let go of everything. May be called twice."""
