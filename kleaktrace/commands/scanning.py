# SPDX-License-Identifier: GPL-2.0-or-later
"""The scans of `run`, `confirm` and the screen of `trace`; progress goes to standard error, if nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from kleaktrace.commands.signals import Sleeper
from kleaktrace.core.events.records import hide
from kleaktrace.core.kmemleak.diagnosis import State
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.edge.kmemleak.client import GAP_S, KmemleakClient, ScanPhase, ScanReading, scan_protocol
from kleaktrace.edge.kmemleak.diagnosis import diagnose
from kleaktrace.edge.kmemleak.sheaf_scrub import scrub_sheaves
from kleaktrace.edge.kmemleak.vmap_area_fill import filled_vmap_areas
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost
from kleaktrace.session.session import Session
from kleaktrace.views.terminal import console

_QUIESCE_S = 1.0
"""For what was set going before: RCU callbacks, delayed work, dying tasks."""

_CLEARINGS = 4
"""At most; one nearly always does."""

Progress = Callable[[int, int, ScanPhase], None]
Telling = Callable[[], AbstractContextManager[Progress]]
"""Gives what is told of the progress while scans go on."""


def kmemleak_if_on() -> tuple[KmemleakClient | None, list[str]]:
    """The client if kmemleak is on; else why not, what that costs, and what to do."""
    client = KmemleakClient()
    health = diagnose(client)
    if health.state is State.ON:
        return client, []
    return None, [
        f"{health.what}, which says what nobody points to any more: only what unloaded modules and repeated rounds "
        f"leave behind can be judged. To do: {health.fix}"
    ]


@contextmanager
def scan_progress() -> Iterator[Progress]:
    """Tell what the scans are doing: a spinner on a terminal, else nothing but the start of each scan."""
    screen = console.make(stderr=True)
    if not sys.stderr.isatty():
        yield (
            lambda done, total, doing: (
                screen.print(f"kleaktrace: scan {done + 1} of {total}") if doing is ScanPhase.SCANNING else None
            )
        )
        return
    with screen.status("kmemleak: starting") as status:
        yield lambda done, total, doing: status.update(progress_words(done, total, doing))


def progress_words(done: int, total: int, doing: ScanPhase) -> str:
    """How far the scans are."""
    return f"kmemleak: {done} of {total} scans done, {doing}"


def scan_and_watch(
    session: Session, client: KmemleakClient, ending: Sleeper, gap_s: float = GAP_S, telling: Telling = scan_progress
) -> tuple[list[list[Suspect]], list[str]]:
    """Scan as often as this kernel needs; from the first listing on, frees of listed objects are remembered.

    Returns what was listed before the first scan and after each, and what is missing from the evidence: if kmemleak
    goes off meanwhile, or we are asked to end, nothing was listed that counts.
    """
    try:
        return _scan_and_watch(session, client, ending, gap_s, telling), []
    except KeyboardInterrupt:
        return [], ["the scans were interrupted"]
    except (EvidenceLost, EnvironmentRefusal) as lost:  # it was on when we began
        return [], [f"{lost.what} ({lost.fix})" if lost.fix else lost.what]


def _scan_and_watch(
    session: Session, client: KmemleakClient, ending: Sleeper, gap_s: float, telling: Telling
) -> list[list[Suspect]]:
    """As `scan_and_watch`, but raises as `KmemleakClient.scan` does, and KeyboardInterrupt."""
    readings = [list(client.read().objects)]
    watch(session, readings[0])
    ending.sleep(_QUIESCE_S)

    def pause(seconds: float) -> None:
        watch(session, client.read().objects)
        ending.sleep(seconds)

    began = session.start.jiffies
    _clear_sheaves(session)
    vmallocs = session.outstanding_vmallocs()
    with filled_vmap_areas(vmallocs, session.free_before), telling() as progress:
        scanned = scan_protocol(
            client, client.needed_scans(), gap_s, progress, pause, lambda done: _unsettled(done, began)
        )
    session.look_into_sheaves()
    return readings + [list(reading.objects) for reading in scanned]


def _clear_sheaves(session: Session) -> None:
    """Have sheaves replaced; once more where somebody has freed an object meanwhile, for which an old one stayed."""
    for _ in range(_CLEARINGS):
        scrub_sheaves()
        session.look_into_sheaves()
        if not session.hidden_in_sheaves():
            return


def _unsettled(readings: Sequence[ScanReading], began: int) -> bool:
    """Whether the last two scans disagree about an object that was allocated since `began` (jiffies)."""
    last, before = ({(s.kind, s.address, s.jiffies) for s in r.objects if s.jiffies >= began} for r in readings[-2:])
    return last != before


def watch(session: Session, suspects: Sequence[Suspect]) -> None:
    """Have the ledger remember frees at these addresses, though it may not know their allocations."""
    for percpu in (False, True):
        session.watch([hide(s.untagged) for s in suspects if (s.kind == SuspectKind.PERCPU) is percpu], percpu)
