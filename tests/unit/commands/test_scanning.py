# SPDX-License-Identifier: GPL-2.0-or-later
"""The scans of `run` and `confirm`: what is read and watched meanwhile, what ends them, and what is told of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from builders import suspect
from made_up_kmemleak import MadeUpKmemleak
from made_up_source import MadeUpSource

from kleaktrace.commands import scanning
from kleaktrace.commands.scanning import Progress, kmemleak_if_on, progress_words, scan_and_watch, scan_progress
from kleaktrace.core.events.records import hide
from kleaktrace.core.kmemleak.diagnosis import KmemleakHealth, State
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.edge.kmemleak.client import MORE_SCANS, KmemleakClient, ScanPhase
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost, KleaktraceError
from kleaktrace.session.session import Session

A, B = 0xFFFF888100010000, 0xFFFF888100020000


class Ending:
    """Sleeps not at all, and is asked to end at the sleep of that number."""

    def __init__(self, at: int | None = None) -> None:
        self.slept: list[float] = []
        self._at = at

    def sleep(self, seconds: float) -> None:
        if len(self.slept) == self._at:
            raise KeyboardInterrupt
        self.slept.append(seconds)


class Told:
    """What was told of the progress."""

    def __init__(self) -> None:
        self.phases: list[tuple[int, int, ScanPhase]] = []
        self.ended = False

    @contextmanager
    def __call__(self) -> Iterator[Progress]:
        try:
            yield lambda *told: self.phases.append(told)
        finally:
            self.ended = True


def scanned(
    session: Session, kmemleak: MadeUpKmemleak, ending: Ending | None = None, told: Told | None = None
) -> tuple[list[list[Suspect]], list[str]]:
    return scan_and_watch(session, kmemleak, ending or Ending(), 6.0, told or Told())  # type: ignore[arg-type]


def test_what_is_listed_is_read_before_the_scans_and_after_each(session: Session) -> None:
    kmemleak, ending, told = MadeUpKmemleak(suspect(-4, A)), Ending(), Told()

    def one_more() -> None:
        kmemleak.listed = (suspect(-4, A), suspect(-3, B))

    kmemleak.at_scan = one_more
    readings, gaps = scanned(session, kmemleak, ending, told)
    assert [[one.address for one in reading] for reading in readings] == [[A], [A, B], [A, B]]
    assert (gaps, kmemleak.scans, ending.slept) == ([], 2, [1.0, 6.0])
    assert [phase for phase in told.phases if phase[2] is ScanPhase.SCANNING] == [
        (0, 2, ScanPhase.SCANNING),
        (1, 2, ScanPhase.SCANNING),
    ]
    assert told.ended


def test_frees_of_what_was_listed_are_remembered(source: MadeUpSource, session: Session) -> None:
    percpu = suspect(-4, B, kind="percpu")
    kmemleak = MadeUpKmemleak(suspect(-4, A), percpu)
    kmemleak.at_scan = lambda: source.free(A)
    scanned(session, kmemleak)
    with session.looking() as recording:
        assert recording.ledger.watched_frees()["object"].tolist() == [hide(A)]


def test_scans_go_on_while_they_disagree_about_what_is_new(session: Session) -> None:
    kmemleak = MadeUpKmemleak()
    numbers = iter(range(100))

    def another() -> None:
        kmemleak.listed = (suspect(0, A + 256 * next(numbers), jiffies=session.start.jiffies + 5),)

    kmemleak.at_scan = another
    readings, _ = scanned(session, kmemleak)
    assert kmemleak.scans == 2 + MORE_SCANS
    assert len(readings) == 1 + kmemleak.scans


@pytest.mark.parametrize("sleep", [0, 1])
def test_scans_that_are_interrupted_tell_nothing(session: Session, sleep: int) -> None:
    kmemleak, told = MadeUpKmemleak(suspect(-4, A)), Told()
    assert scanned(session, kmemleak, Ending(sleep), told) == ([], ["the scans were interrupted"])
    assert kmemleak.scans == sleep
    assert told.ended is bool(sleep)  # it has not begun before the first sleep


def test_a_scan_that_is_interrupted_itself_counts_for_nothing(session: Session) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    kmemleak, told = MadeUpKmemleak(suspect(-4, A)), Told()
    kmemleak.at_scan = interrupted
    assert scanned(session, kmemleak, told=told) == ([], ["the scans were interrupted"])
    assert told.ended


@pytest.mark.parametrize(
    ("failure", "gap"),
    [
        (EvidenceLost("kmemleak went off during the scan", "reboot"), "kmemleak went off during the scan (reboot)"),
        (EnvironmentRefusal("kmemleak: it is off"), "kmemleak: it is off"),
    ],
)
def test_scans_that_fail_are_a_gap(session: Session, failure: KleaktraceError, gap: str) -> None:
    kmemleak, told = MadeUpKmemleak(suspect(-4, A)), Told()
    kmemleak.fails = failure
    assert scanned(session, kmemleak, told=told) == ([], [gap])
    assert told.ended


@pytest.mark.parametrize("state", [State.ON, State.OFF])
def test_without_kmemleak_it_is_said_what_is_not_judged(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    health = KmemleakHealth(state, None, what="kmemleak is so", fix="Do that.")
    monkeypatch.setattr(scanning, "diagnose", lambda _: health)
    client, gaps = kmemleak_if_on()
    if state is State.ON:
        assert isinstance(client, KmemleakClient)
        assert gaps == []
    else:
        assert client is None
        assert gaps[0].startswith("kmemleak is so, which says what nobody points to any more: only")
        assert gaps[0].endswith("Do that.")


def test_into_a_file_only_the_start_of_each_scan_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with scan_progress() as progress:
        for phase in ScanPhase:
            progress(1, 3, phase)
    assert capsys.readouterr().err == "kleaktrace: scan 2 of 3\n"


class Status:
    """What turns on a terminal."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, words: str) -> None:
        self.shown.append(words)

    @contextmanager
    def status(self, words: str) -> Iterator[Status]:
        self.update(words)
        yield self


def test_on_a_terminal_every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Status()
    make: Callable[..., Status] = lambda **_: screen  # noqa: E731  in place of the console's own
    monkeypatch.setattr(scanning.console, "make", make)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with scan_progress() as progress:
        progress(0, 3, ScanPhase.SCANNING)
        progress(1, 3, ScanPhase.READING)
    assert screen.shown == [
        "kmemleak: starting",
        "kmemleak: 0 of 3 scans done, scanning",
        "kmemleak: 1 of 3 scans done, reading",
    ]
    assert progress_words(1, 3, ScanPhase.WAITING) == "kmemleak: 1 of 3 scans done, waiting for the next scan"
