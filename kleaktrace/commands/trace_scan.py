# SPDX-License-Identifier: GPL-2.0-or-later
"""`s` on the screen of `trace`: kmemleak scans while tracing goes on, and what it lists is judged."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kleaktrace.commands.judging import answered
from kleaktrace.commands.scanning import Progress, progress_words, scan_and_watch
from kleaktrace.core.evidence.evidence import JudgedSuspect, Question, Verdict
from kleaktrace.core.kmemleak.diagnosis import State
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.live_table.stack_verdicts import StackVerdicts
from kleaktrace.core.recording import Recording
from kleaktrace.edge.kmemleak.client import KmemleakClient, ScanPhase
from kleaktrace.edge.kmemleak.diagnosis import diagnose
from kleaktrace.edge.machine.processes import living
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost
from kleaktrace.session.session import Session

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scanned:
    """What scans told beside the events. watched_s: how long it is since they began, when they had ended."""

    readings: Sequence[Sequence[Suspect]]
    watched_s: float
    alive: frozenset[int]
    answers: Mapping[Question, bool]

    def added_to(self, recording: Recording) -> Recording:
        """The recording that knows this, too."""
        return replace(
            recording,
            readings=self.readings,
            watched_s=self.watched_s,
            alive=self.alive,
            answers=self.answers,
            series=recording.load_cycles(recording.clock.end.time_ns),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """What was scanned, and the verdicts by call stack, with a sentence that sums them up."""

    scanned: Scanned
    verdicts: StackVerdicts
    words: str


class SilentEnding:
    """Sleeps in a thread that no signal reaches, until `end` is called elsewhere."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def end(self) -> None:
        """Have all sleepers raise KeyboardInterrupt."""
        self._ended.set()

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise KeyboardInterrupt."""
        if self._ended.wait(seconds):
            raise KeyboardInterrupt


def scan_and_judge(session: Session, client: KmemleakClient, ending: SilentEnding, say: Say) -> Judged:
    """Scan as `run` does, and judge while tracing goes on.

    Raises `EnvironmentRefusal` where kmemleak is off or absent, and `EvidenceLost` if it goes off meanwhile.
    """
    health = diagnose(client)
    if health.state is not State.ON:
        raise EnvironmentRefusal(f"no scan: {health.what}", health.fix)
    began = time.monotonic()
    readings, gaps = scan_and_watch(session, client, ending, telling=lambda: _telling(ending, say))
    if gaps:
        raise EvidenceLost(f"no verdicts: {gaps[0]}")
    scanned = Scanned(readings, time.monotonic() - began, living(), {})
    with session.looking() as recording:
        questions, hz = scanned.added_to(recording).open_questions(), recording.clock.hz
    scanned = replace(scanned, answers=answered(client, questions, hz))
    with session.looking() as recording:
        judged = scanned.added_to(recording)
        suspects = judged.judge()
        hidden = session.overlooked(judged, suspects)
        keys = recording.ledger.snapshot().stacks.tolist()
    return Judged(scanned, StackVerdicts.of(suspects, session.names, keys), _words(suspects, bool(hidden)))


@contextmanager
def _telling(ending: SilentEnding, say: Say) -> Iterator[Progress]:
    def progress(done: int, total: int, doing: ScanPhase) -> None:
        ending.sleep(0)
        say(progress_words(done, total, doing))

    yield progress


def _words(suspects: Sequence[JudgedSuspect], may_overlook: bool) -> str:
    counts = Counter(suspect.verdict for suspect in suspects)
    words = f"scanned: {', '.join(f'{counts[verdict]:,} {verdict}' for verdict in Verdict)}"
    return f"{words}; kmemleak may overlook some" if may_overlook else words
