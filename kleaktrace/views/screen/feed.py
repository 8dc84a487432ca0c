# SPDX-License-Identifier: GPL-2.0-or-later
"""What the screen is fed by: whoever has a session answers as this says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kleaktrace.core.events.loss import Loss
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.ledger.ledger import Totals
from kleaktrace.core.live_table.group_details import GroupDetails
from kleaktrace.core.live_table.live_table import Asked, TableLook
from kleaktrace.core.live_table.stack_verdicts import StackVerdicts
from kleaktrace.core.source_lines.source_lines import SourceLines


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at a session: the table, and what is told above it.

    unseen: kinds of events that this kernel does not show. growing: the call stacks that kept growing, fastest first,
    when that was last looked for.
    """

    table: TableLook
    seconds: float
    totals: Totals
    loss: Loss
    unseen: Sequence[str]
    growing: Sequence[GrowingStack] = ()


class Feed(Protocol):
    """A session to look at. Each method may be called by a thread of its own, and may take a while.

    They raise what the session does if draining has failed.
    """

    @property
    def now_ns(self) -> int:
        """The time up to which events can have been seen."""

    @property
    def verdicts(self) -> StackVerdicts:
        """What the last scan came to."""

    def look(self, asked: Asked) -> Seen:
        """What there is by now."""

    def details(self, look: TableLook, group: int) -> GroupDetails:
        """What is known of one row by now."""

    def sources(self, frames: Iterable[str]) -> SourceLines:
        """The source lines of frames, as far as there is debug information for them."""

    def scan(self, progress: Callable[[str], None]) -> str:
        """Have kmemleak scan, and judge what it lists; what came of it, in a sentence. Progress is told in words."""

    def save(self, name: str) -> str:
        """Keep what is known by now in a capture of this name; where it is, in a sentence. Raises `KleaktraceError`."""
