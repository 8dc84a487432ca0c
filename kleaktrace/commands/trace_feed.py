# SPDX-License-Identifier: GPL-2.0-or-later
"""What feeds the interactive screen of `trace`: looks at a session, scans, source lines, and captures of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from kleaktrace.commands.trace_scan import Judged, SilentEnding, scan_and_judge
from kleaktrace.core.events.coverage import kinds_missed
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.live_table.group_details import GroupDetails, group_details
from kleaktrace.core.live_table.live_table import Asked, LiveTable, TableLook
from kleaktrace.core.live_table.stack_verdicts import NO_VERDICTS, StackVerdicts
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Kernel
from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines
from kleaktrace.edge.kmemleak.client import KmemleakClient
from kleaktrace.edge.machine.meminfo import CgroupPaths
from kleaktrace.errors import EnvironmentRefusal, UsageError
from kleaktrace.session.session import Session
from kleaktrace.views.screen.feed import Seen

_GROWING_S, _GROWING_SHARE = 5.0, 200
"""Between looks at what is growing: so many seconds, and so many times what a look takes."""

NOT_JUDGED = "tracing alone gives no verdicts: use `kleaktrace run` or `kleaktrace confirm`"


class TraceFeed:
    """A `Feed` of one session.

    client: kmemleak; None: the session is a replay, and has none. kept: where the session is kept already.
    debug_dirs: where to look for debug information, too.
    """

    def __init__(
        self,
        session: Session,
        client: KmemleakClient | None,
        kept: Path | None = None,
        debug_dirs: Sequence[Path] = (),
    ) -> None:
        self._session, self._client, self._kept = session, client, kept
        self._cgroups = CgroupPaths()
        self._table = LiveTable(Asked(), session.names)
        self._lines = _KnownLines(session, debug_dirs, live=client is not None)
        self._growth = _Growth(session)
        self._ending = SilentEnding()
        self._judged: Judged | None = None

    @property
    def now_ns(self) -> int:
        """The session's time."""
        return self._session.now_ns

    @property
    def verdicts(self) -> StackVerdicts:
        """What the last scan came to."""
        return NO_VERDICTS if self._judged is None else self._judged.verdicts

    @property
    def scanned(self) -> bool:
        """Whether there is a scan to judge by."""
        return self._judged is not None

    def observed(self, recording: Recording) -> Recording:
        """The recording with what the last scan told; or that there was none."""
        if self._judged is None:
            return replace(recording, gaps=[NOT_JUDGED])
        return self._judged.scanned.added_to(recording)

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
        return Seen(table, session.seconds, counts.totals, counts.loss, unseen, self._growth.look())

    def details(self, look: TableLook, group: int) -> GroupDetails:
        """What is known of one row by now."""
        with self._session.looking() as recording:
            return group_details(look, group, recording.ledger, recording.names, self.verdicts)

    def sources(self, frames: Iterable[str]) -> SourceLines:
        """The source lines of frames."""
        return self._lines.of(frames)

    def scan(self, progress: Callable[[str], None]) -> str:
        """Scan and judge."""
        if self._client is None:
            raise EnvironmentRefusal("no scan: this is a replay, and kmemleak knows only the kernel that runs here")
        self._judged = scan_and_judge(self._session, self._client, self._ending, progress)
        return self._judged.words

    def save(self, name: str) -> str:
        """Write a capture of what is known by now."""
        from kleaktrace.edge.capture.capture_writer import write_capture

        if self._kept is not None:
            raise UsageError(f"all is kept in {self._kept} already", "it is whole when this ends")
        path = Path(name).expanduser()
        write_capture(path, self._session.looking, self.observed)
        return f"written: kleaktrace report {path}"

    def end(self) -> None:
        """Nobody waits for a scan any more."""
        self._ending.end()


class _Growth:
    """What keeps growing, looked for now and then: nothing is drained meanwhile."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._due_s = time.monotonic() + _GROWING_S
        self._found: Sequence[GrowingStack] = ()

    def look(self) -> Sequence[GrowingStack]:
        """What was found last, or now if it is time."""
        if time.monotonic() >= self._due_s:
            begun_s = time.thread_time()
            with self._session.looking() as recording:
                self._found = recording.growing()
            self._due_s = time.monotonic() + max(_GROWING_S, _GROWING_SHARE * (time.thread_time() - begun_s))
        return self._found


class _KnownLines:
    """Source lines that were looked up, or looked for in vain: each frame once."""

    def __init__(self, session: Session, directories: Sequence[Path], live: bool) -> None:
        self._session, self._directories, self._live = session, directories, live
        self._kernel: Kernel | None = None
        self._asked: set[str] = set()
        self._known: dict[str, Sequence[SourceLine]] = {}

    def of(self, frames: Iterable[str]) -> SourceLines:
        """All that is known by now, of these frames and of others."""
        from kleaktrace.edge.debug_info.lookup import look_up

        new = [frame for frame in frames if frame not in self._asked]
        if new:
            self._asked.update(new)
            build_ids = self._session.names.build_ids.copy()
            self._known.update(look_up(new, self._kernel_traced(), build_ids, self._directories, live=self._live).known)
        return SourceLines(self._known.copy())

    def _kernel_traced(self) -> Kernel:
        if self._kernel is None:
            with self._session.looking() as recording:
                self._kernel = recording.kernel
        return self._kernel
