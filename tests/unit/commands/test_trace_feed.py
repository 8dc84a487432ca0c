# SPDX-License-Identifier: GPL-2.0-or-later
"""What feeds the screen of `trace`, and the report after it, on a source and a kmemleak that the test makes up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import inside, suspect
from click.testing import CliRunner
from made_up_machine import MadeUpMachine

from kleaktrace.commands import trace as trace_module
from kleaktrace.commands import trace_scan as scan_module
from kleaktrace.commands.trace_feed import NOT_JUDGED, TraceFeed
from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.records import Kind, hide
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.kmemleak.diagnosis import KmemleakHealth, State
from kleaktrace.core.live_table.live_table import Asked
from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines
from kleaktrace.core.symbols.kernel_names import CacheName
from kleaktrace.edge.capture.capture_reader import read_capture
from kleaktrace.edge.kmemleak import client as client_module
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost, UsageError
from kleaktrace.session.session import Session
from kleaktrace.views.terminal import console as console_module

A, B = 0xFFFF888100010000, 0xFFFF888100020000
ON = KmemleakHealth(State.ON, None, what="kmemleak is on", fix="")
OFF = KmemleakHealth(State.OFF, None, what="kmemleak is off", fix="boot with kmemleak=on")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> MadeUpMachine:
    monkeypatch.setattr(scan_module, "diagnose", lambda _: ON)
    monkeypatch.setattr(client_module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(scan_module.SilentEnding, "sleep", _at_once)
    return MadeUpMachine()


def _at_once(ending: scan_module.SilentEnding, seconds: float) -> None:
    if ending._ended.is_set():
        raise KeyboardInterrupt


@pytest.fixture
def session(machine: MadeUpMachine) -> Iterator[Session]:
    with Session(machine.source) as session:
        yield session


@pytest.fixture
def feed(machine: MadeUpMachine, session: Session) -> TraceFeed:
    return TraceFeed(session, machine.kmemleak)  # type: ignore[arg-type]


def leak(machine: MadeUpMachine, address: int = A) -> None:
    machine.source.allocate(address)
    last = machine.source.last
    machine.kmemleak.listed = (suspect(0, address, 100, jiffies=last.jiffies),)


def test_a_look_has_the_table_and_what_is_told_above_it(machine: MadeUpMachine, feed: TraceFeed) -> None:
    machine.source.allocate(A)
    machine.source.coverage = (*machine.source.coverage, Coverage(CoverageKind.SLAB_SHEAF_FREE, None))
    seen = feed.look(Asked())
    assert (seen.totals.allocations, seen.loss.events, list(seen.unseen)) == (1, 0, ["slab-sheaf-free"])
    assert seen.table.row(0).label == "drv_probe [drv]"
    assert feed.look(Asked(GroupBy.PID)).table.row(0).label == "42 (insmod)"
    assert feed.look(Asked(since_ns=feed.now_ns)).table.counts.sum() == 0
    assert feed.look(Asked(older_s=60)).table.counts.sum() == 0
    assert len(feed.look(Asked(GroupBy.CGROUP)).table.groups) == 1


def test_a_table_goes_on_from_look_to_look(machine: MadeUpMachine, feed: TraceFeed) -> None:
    machine.source.allocate(A)
    first = feed.look(Asked())
    machine.source.allocate(B)
    second = feed.look(Asked())
    assert second.table.groups is first.table.groups
    assert second.table.row(0).levels == (128.0, 256.0)


def test_details_of_a_row(machine: MadeUpMachine, feed: TraceFeed) -> None:
    machine.source.allocate(A)
    machine.source.allocate(B)
    machine.source.free(B, call_site=inside("core_free"))
    told = feed.details(feed.look(Asked()).table, 0)
    assert (told.siblings.allocated, told.siblings.freed, told.scanned) == (2, 1, False)


def test_a_scan_gives_verdicts_and_tells_how_far_it_is(machine: MadeUpMachine, feed: TraceFeed) -> None:
    leak(machine)
    said: list[str] = []
    assert feed.scan(said.append) == "scanned: 1 confirmed, 0 dismissed, 0 undecided"
    assert said[0] == "kmemleak: 0 of 2 scans done, scanning"
    assert machine.kmemleak.scans == 2
    assert machine.source.paused == 0, "tracing goes on"
    look = feed.look(Asked()).table
    assert feed.verdicts.ranks(look).tolist() == [3]
    (one,) = feed.details(look, 0).suspects
    assert (one.verdict, one.address) == (Verdict.CONFIRMED, A)
    machine.source.free(A, call_site=inside("core_free"))
    machine.kmemleak.listed = ()
    assert feed.scan(said.append) == "scanned: 0 confirmed, 0 dismissed, 0 undecided"
    assert feed.verdicts.scanned


def test_a_scan_says_that_something_may_be_overlooked(machine: MadeUpMachine, feed: TraceFeed) -> None:
    machine.source.names.caches[7] = CacheName(7, "drv_item", 100, 128)
    machine.source.allocate(A, kind=Kind.CACHE, cache=7, time_ns=machine.source.started.time_ns - 10**10)
    machine.source.in_sheaves = [hide(A)]
    assert feed.scan(lambda _: None) == "scanned: 0 confirmed, 0 dismissed, 0 undecided; kmemleak may overlook some"


def test_where_kmemleak_is_off_a_scan_says_what_doctor_says(
    machine: MadeUpMachine, feed: TraceFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "diagnose", lambda _: OFF)
    with pytest.raises(EnvironmentRefusal, match="no scan: kmemleak is off") as refused:
        feed.scan(lambda words: None)
    assert refused.value.fix == "boot with kmemleak=on"


def test_a_scan_that_fails_gives_no_verdicts(machine: MadeUpMachine, feed: TraceFeed) -> None:
    machine.kmemleak.fails = EvidenceLost("kmemleak went off during the scan", "reboot")
    with pytest.raises(EvidenceLost, match=r"no verdicts: kmemleak went off during the scan \(reboot\)"):
        feed.scan(lambda words: None)
    assert not feed.verdicts.scanned
    assert not feed.scanned


def test_nobody_waits_for_a_scan_at_the_end(machine: MadeUpMachine, feed: TraceFeed) -> None:
    machine.kmemleak.at_scan = feed.end
    with pytest.raises(EvidenceLost, match="interrupted"):
        feed.scan(lambda words: None)
    assert machine.kmemleak.scans == 1


def test_a_replay_has_no_kmemleak(session: Session) -> None:
    with pytest.raises(EnvironmentRefusal, match="replay"):
        TraceFeed(session, None).scan(lambda words: None)


def test_sleeping_without_signals_ends_at_once() -> None:
    ending = scan_module.SilentEnding()
    ending.sleep(0)
    threading.Timer(0.05, ending.end).start()
    with pytest.raises(KeyboardInterrupt):
        ending.sleep(60)


def test_what_is_known_is_written_while_tracing_goes_on(
    machine: MadeUpMachine, feed: TraceFeed, session: Session, tmp_path: Path
) -> None:
    machine.source.allocate(A)
    path = tmp_path / "first"
    assert feed.save(str(path)) == f"written: kleaktrace report {path}"
    assert path.is_file()
    assert path.stat().st_mode & 0o777 == 0o600
    first = read_capture(path)
    assert (first.ledger.totals().outstanding, list(first.gaps)) == (1, [NOT_JUDGED])
    leak(machine, B)
    feed.scan(lambda words: None)
    feed.save(str(tmp_path / "second"))
    second = read_capture(tmp_path / "second")
    assert second.ledger.totals().outstanding == 2
    assert [one.verdict for one in second.judge()] == [Verdict.CONFIRMED]
    assert not second.gaps
    machine.source.free(A)
    assert session.counts().totals.outstanding == 1


def test_a_name_that_is_taken_is_refused(feed: TraceFeed, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        feed.save(str(tmp_path))
    with pytest.raises(UsageError, match="No such file"):
        feed.save(str(tmp_path / "no" / "such"))


def test_what_is_kept_already_is_not_written_once_more(session: Session, tmp_path: Path) -> None:
    feed = TraceFeed(session, None, tmp_path / "kept")
    with pytest.raises(UsageError, match="kept already"):
        feed.save(str(tmp_path / "other"))


def test_each_frame_is_looked_up_once(feed: TraceFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def look_up(frames: list[str], *_: object, **__: object) -> SourceLines:
        asked.append(frames)
        return SourceLines({frame: (SourceLine("f", "f.c", 7),) for frame in frames if frame == "a"})

    monkeypatch.setattr("kleaktrace.edge.debug_info.lookup.look_up", look_up)
    assert [line.place for line in feed.sources(["a", "b"]).of("a")] == ["f.c:7"]
    assert feed.sources(["b", "c"]).of("a")
    assert asked == [["a", "b"], ["c"]]


@pytest.mark.parametrize("scans", [False, True])
def test_after_the_screen_comes_the_report(
    machine: MadeUpMachine, monkeypatch: pytest.MonkeyPatch, scans: bool
) -> None:
    machine.stand_in(monkeypatch)

    def show(feed: TraceFeed, by: GroupBy, *_: object) -> None:
        assert by is GroupBy.CACHE
        leak(machine)
        if scans:
            feed.scan(lambda words: None)

    monkeypatch.setattr(trace_module, "live_session", lambda *_, **__: Session(machine.source))
    monkeypatch.setattr(client_module, "KmemleakClient", lambda: machine.kmemleak)
    monkeypatch.setattr(trace_module, "no_screen", lambda: None)
    monkeypatch.setattr(trace_module, "show_trace_screen", show)
    monkeypatch.setattr(console_module._Console, "is_terminal", True)
    done = CliRunner().invoke(trace_module.trace, ["--by", "cache"])
    assert (done.exit_code, done.exception) == (0, None), done.output
    assert "kmalloc-128" in done.stdout
    assert ("LEAKS: 1 confirmed" in done.stdout) is scans
    assert ("by insmod (pid 42" in done.stdout) is scans
    assert "lost: nothing" in done.stdout
