# SPDX-License-Identifier: GPL-2.0-or-later
"""What feeds the interactive screen of `trace`: looks at a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kleaktrace.core.events.coverage import kinds_missed
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.live_table.group_details import GroupDetails, group_details
from kleaktrace.core.live_table.live_table import Asked, LiveTable, TableLook
from kleaktrace.core.live_table.stack_verdicts import NO_VERDICTS, StackVerdicts
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.edge.machine.meminfo import CgroupPaths
from kleaktrace.session.session import Session
from kleaktrace.views.screen.feed import Seen


class TraceFeed:
    """A `Feed` of one session. debug_dirs: where to look for debug information, too."""

    def __init__(self, session: Session, debug_dirs: Sequence[Path] = ()) -> None:
        self._session, self._debug_dirs = session, debug_dirs
        self._cgroups = CgroupPaths()
        self._table = LiveTable(Asked(), session.names)
        self._sources: dict[str, SourceLines] = {}

    @property
    def now_ns(self) -> int:
        """The session's time."""
        return self._session.now_ns

    @property
    def verdicts(self) -> StackVerdicts:
        """What the last scan came to."""
        return NO_VERDICTS

    def look(self, asked: Asked) -> Seen:
        """What there is by now. Another question begins another table, of which nothing is known of before."""
        session = self._session
        if asked != self._table.asked:
            self._table = LiveTable(asked, session.names, self._cgroups.path)
        if asked.by is GroupBy.CGROUP:
            self._cgroups.look()
        counts = session.counts(asked.older_s, asked.since_ns, asked.by.by_process)
        table = self._table.look(counts.time_ns, counts.outstanding)
        unseen = [str(kind) for kind in kinds_missed(session.coverage)]
        return Seen(table, session.seconds, counts.totals, counts.loss, unseen)

    def details(self, look: TableLook, group: int) -> GroupDetails:
        """What is known of one row by now."""
        with self._session.looking() as recording:
            return group_details(look, group, recording.ledger, recording.names, self.verdicts)

    def sources(self, frames: Iterable[str]) -> SourceLines:
        """Nothing yet."""
        return NO_SOURCE_LINES

    def scan(self, progress: Callable[[str], None]) -> str:
        """Not yet."""
        return "this can't scan yet"

    def save(self, name: str) -> str:
        """Not yet."""
        return "this can't write yet"
