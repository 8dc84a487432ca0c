# SPDX-License-Identifier: GPL-2.0-or-later
"""What a session learns is kept while it runs, and read back it is judged and reported as it was."""

from __future__ import annotations

import errno
import gzip
import os
import random
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import DRIVER, inside, module_image, suspect
from made_up_source import MadeUpSource

from kleaktrace.core.capture.recording_log import RecordingLog
from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.loss import Loss, LossWindow, LostEvents
from kleaktrace.core.events.records import hide
from kleaktrace.core.evidence.rounds import RoundSeries, RoundSource
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.leaked_objects.anatomy import ObjectContents
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.machine.unexplained_memory import MissingMemory, Unexplained
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import CommandResult
from kleaktrace.edge.capture import capture_files, capture_writer
from kleaktrace.edge.capture.capture_files import CaptureFiles
from kleaktrace.edge.capture.capture_reader import flushes, read_capture
from kleaktrace.edge.capture.capture_writer import CaptureWriter
from kleaktrace.edge.capture.pack import pack
from kleaktrace.errors import UsageError
from kleaktrace.session.session import Session
from kleaktrace.views.documents.report import document

A, B, C = 0xFFFF888100010000, 0xFFFF888100020000, 0xFFFF888100030000


def told(recording: Recording) -> dict[str, object]:
    return document(recording.report(recording.judge()))


@contextmanager
def sessions() -> Iterator[tuple[Session, MadeUpSource]]:
    source = MadeUpSource()
    source.names.symbols.module_loaded(module_image(loaded_ns=source.started.time_ns))
    source.names.stacks.add(1, [inside("__kmalloc_noprof"), inside("drv_probe"), inside("do_one_initcall")])
    with Session(source) as session:
        yield session, source


def kept(path: Path, session: Session, observed: Callable[[Recording], Recording]) -> Recording:
    with CaptureWriter(path, session.looking) as writer:
        session.catch_up()
        session.stop()
        recording = observed(session.recording())
        writer.finish(recording)
    assert writer.failure is None
    return recording


def test_a_capture_tells_all_that_the_session_told(tmp_path: Path) -> None:
    with sessions() as (session, source):
        for number in range(40):
            source.allocate(A + 256 * number, size=100 + number, comm=b"insmod", cpu=number % 2)
        for number in range(0, 40, 3):
            source.free(A + 256 * number, call_site=inside("core_free"))
        source.free(B)
        source.names.programs.add(42, 0, b"/sbin/insmod\0drv.ko\0")
        source.names.symbols.module_freed("drv", 0xFFFFFFFFC0200000, source.moment().time_ns)
        window = LossWindow(source.started.time_ns, source.started.time_ns + 5, 3, (1, 2, 0, 3))
        source.loss = Loss(3, 1, 2, (window,), (LostEvents("events for want of room", 3),))
        listed = [
            replace(suspect(0, A + 256), jiffies=source.last.jiffies, age_s=1.5, crc=None),
            replace(suspect(0, C, kind="slab"), frames=(KmemleakFrame(1, "f\x1b[31m", 2, 3, "m", "a.c:1", True, "p"),)),
        ]
        end = source.moment().time_ns

        def observed(recording: Recording) -> Recording:
            return replace(
                recording,
                readings=[[], listed, listed[:1]],
                series=[RoundSeries(RoundSource.MARK, (1, 2, end), "mark")],
                alive=frozenset({1, 42}),
                command=CommandResult(("insmod", "dr\x1bv.ko"), -9, 3, 1, True),
                growth_windows=[(1, end)],
                settled=Settled(6.5, 3, 1),
                gaps=["made up"],
                missing=[Unexplained(MissingMemory.PAGES, 4096, "are gone", (("mm/a.c:1 f", 4096),))],
                watched_s=3.5,
                contents=ObjectContents(
                    {hide(A + 256): ~np.array([DRIVER, 7, 0], np.uint64)},
                    Coverage(CoverageKind.OBJECT_CONTENTS, None, "seen"),
                ),
            )

        live = kept(tmp_path / "capture", session, observed)
        questions = live.open_questions()
        assert questions
        assert told(read_capture(tmp_path / "capture")) == told(live)
    assert (tmp_path / "capture").is_file()
    assert stat.S_IMODE((tmp_path / "capture").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["capture"]


def test_answers_of_kmemleak_are_kept(tmp_path: Path) -> None:
    with sessions() as (session, source):
        source.allocate(A)
        source.names.symbols.module_freed("drv", 0xFFFFFFFFC0200000, source.moment().time_ns)

        def observed(recording: Recording) -> Recording:
            asked = recording.open_questions()
            return replace(recording, answers=dict.fromkeys(asked, False))

        live = kept(tmp_path / "capture", session, observed)
        assert read_capture(tmp_path / "capture").answers == live.answers
        assert told(read_capture(tmp_path / "capture")) == told(live)


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of some flushes whose session never ended."""
    path = tmp_path_factory.mktemp("captures") / "capture"
    with sessions() as (session, source):
        with session.looking() as recording:
            log = RecordingLog(recording.ledger)
            files = CaptureFiles(path, log.flush(log.look(recording)))
        for second in range(6):
            for number in range(20):
                source.allocate(A + 256 * (20 * second + number), size=64 + number)
            source.free(A + 256 * 20 * second, call_site=inside("core_free"))
            with session.looking() as recording:
                look = log.look(recording, with_samples=True, anew=second % 2 == 1)
            files.add(log.flush(look))
        files.release()
    return path


def test_old_parts_go_once_newer_ones_tell_it_all(broken_off: Path) -> None:
    parts = {int(member.name.split(".")[1]) for member in broken_off.glob("outstanding.*.gz")}
    assert parts == {2, 3}
    assert {int(member.name.split(".")[1]) for member in broken_off.glob("origins.*.gz")} == {2, 3}
    assert read_capture(broken_off).ledger.totals().outstanding == 114


def test_a_part_that_is_gone_but_in_part_is_no_damage(broken_off: Path, tmp_path: Path) -> None:
    """As if it was killed while it deleted: the first of the files is gone, and not the others."""
    shutil.copytree(broken_off, tmp_path / "capture")
    (tmp_path / "capture" / "outstanding.2.arrows.gz").unlink()
    assert told(read_capture(tmp_path / "capture")) == told(read_capture(broken_off))


@pytest.mark.thorough
def test_what_is_outstanding_is_told_anew_when_its_file_is_far_longer_than_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_writer, "_EVERY_S", 0)
    monkeypatch.setattr(capture_files, "_SMALL_PART", 2000)
    with sessions() as (session, source), CaptureWriter(tmp_path / "capture", session.looking) as writer:
        source.allocate(C, size=77)
        while not list((tmp_path / "capture").glob("outstanding.3.*")):
            source.allocate(A)
            session.catch_up()
            source.free(A, call_site=inside("core_free"))
            session.catch_up()
        session.stop()
        live = session.recording()
        writer.finish(live)
        assert told(read_capture(tmp_path / "capture")) == told(live)
    with zipfile.ZipFile(tmp_path / "capture") as packed:
        assert "outstanding.0.arrows.gz" not in packed.namelist()


@pytest.mark.parametrize(
    ("size", "outstanding", "worth"),
    [
        (3 << 20, 1000, True),
        (1 << 20, 0, False),
        (3 << 20, 100_000, False),
        (1 << 30, 1 << 22, True),
        (1 << 30, 1 << 23, False),
    ],
)
def test_it_is_worth_it_for_long_files_of_a_few(size: int, outstanding: int, worth: bool) -> None:
    files = object.__new__(CaptureFiles)
    files._bytes_of_part = size
    assert files.worth_telling_anew(outstanding) == worth


def test_a_session_that_never_ended_is_read_up_to_its_last_flush(broken_off: Path) -> None:
    recording = read_capture(broken_off)
    assert recording.ledger.totals().allocations == 120
    assert recording.loss.windows[-1].to_ns == recording.clock.end.time_ns
    assert told(recording)["verdict"] == "incomplete"


def test_wherever_the_files_break_off_the_rest_is_read(broken_off: Path, tmp_path: Path) -> None:
    """As if the machine went down: each file has less than it should, by its own measure."""
    chosen = random.Random(1)
    seen = set()
    for trial in range(60):
        path = tmp_path / str(trial)
        shutil.copytree(broken_off, path)
        for member in sorted(path.glob("*.gz")):
            if chosen.random() < 0.1:
                os.truncate(member, int(member.stat().st_size * chosen.random() ** 0.3))
        if not next(flushes(path), None):
            continue
        recording = read_capture(path)
        seen.add(recording.ledger.totals().allocations)
        assert recording.loss.events, "and it says so"
        told(recording)
    assert len(seen) > 2


@pytest.mark.thorough
def test_whatever_a_stranger_changes_it_is_read_or_refused(broken_off: Path, tmp_path: Path) -> None:
    chosen = random.Random(2)
    refused = 0
    for trial in range(150):
        path = tmp_path / str(trial)
        shutil.copytree(broken_off, path)
        member = path / chosen.choice(sorted(each.name for each in path.glob("*.gz")))
        data = bytearray(gzip_opened(member))
        for _ in range(chosen.choice([1, 2, 8])):
            data[chosen.randrange(len(data))] = chosen.choice([0, 1, 127, 128, 255, chosen.randrange(256)])
        member.write_bytes(gzip.compress(bytes(data), 1))
        try:
            told(read_capture(path))
        except UsageError:
            refused += 1
        shutil.rmtree(path)
    assert refused


def gzip_opened(path: Path) -> bytes:
    return zlib.decompressobj(31).decompress(path.read_bytes())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (b"", "no capture"),
        (b"PK\x03\x04", "no capture"),
        (b"{}", "no capture"),
        (b"\x7fELF" * 1000, "no capture"),
    ],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, made: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(made)
    with pytest.raises(UsageError, match=said):
        read_capture(tmp_path / "file")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_capture(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"no capture\.json"):
        read_capture(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "7", "{}", '{"kleaktrace_capture": "1"}', '{"kleaktrace_capture": 0}'])
def test_a_description_that_is_none_is_refused(broken_off: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(broken_off, tmp_path / "capture")
    (tmp_path / "capture" / "capture.json").write_text(text)
    with pytest.raises(UsageError, match="no capture"):
        read_capture(tmp_path / "capture")


def test_a_newer_capture_is_refused_with_what_wrote_it(broken_off: Path, tmp_path: Path) -> None:
    shutil.copytree(broken_off, tmp_path / "capture")
    (tmp_path / "capture" / "capture.json").write_text('{"kleaktrace_capture": 2, "program": "kleaktrace 9.9"}')
    with pytest.raises(UsageError, match=r"format 2, by kleaktrace 9\.9; this reads up to 1") as refused:
        read_capture(tmp_path / "capture")
    assert refused.value.fix == "update kleaktrace"


def test_a_file_in_place_of_the_directory_reads_the_same(broken_off: Path, tmp_path: Path) -> None:
    shutil.copytree(broken_off, tmp_path / "capture")
    before = told(read_capture(tmp_path / "capture"))
    pack(tmp_path / "capture")
    assert zipfile.is_zipfile(tmp_path / "capture")
    assert told(read_capture(tmp_path / "capture")) == before


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    with sessions() as (session, _), pytest.raises(UsageError, match="exists"):
        CaptureWriter(tmp_path, session.looking)
    with sessions() as (session, _), pytest.raises(UsageError, match="No such file"):
        CaptureWriter(tmp_path / "nowhere" / "capture", session.looking)


@pytest.mark.parametrize("room", [0, 100, 3000])
def test_a_disk_that_is_full_at_once_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    with sessions() as (session, source):
        source.allocate(A)
        monkeypatch.setattr(os, "write", cramped(room))
        with pytest.raises(UsageError, match="No space left on device"):
            CaptureWriter(tmp_path / "capture", session.looking)
        monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def cramped(room: int) -> Callable[[int, bytes], int]:
    """A write that has room for so many bytes."""
    write = os.write

    def writing(fd: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, data[:room])
        room -= written
        return written

    return writing


@pytest.mark.parametrize("room", [0, 500, 3000])
def test_a_disk_that_fills_up_breaks_the_capture_off_and_not_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    with sessions() as (session, source):
        with CaptureWriter(tmp_path / "capture", session.looking) as writer:
            monkeypatch.setattr(os, "write", cramped(room))
            for number in range(300):
                source.allocate(A + 256 * number, size=number)
            session.catch_up()
            session.stop()
            writer.finish(session.recording())
        monkeypatch.undo()
        assert writer.failure is not None
        assert writer.failure.errno == errno.ENOSPC
    assert (tmp_path / "capture").is_dir()
    assert read_capture(tmp_path / "capture").gaps


def test_a_bug_in_the_thread_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("made up")

    with sessions() as (session, _):
        monkeypatch.setattr(capture_writer, "_EVERY_S", 0)
        writer = CaptureWriter(tmp_path / "capture", session.looking)
        monkeypatch.setattr(RecordingLog, "flush", failing)
        writer._thread.join()
        session.stop()
        with writer, pytest.raises(RuntimeError, match="made up"):
            writer.finish(session.recording())


def test_only_the_owner_reads_a_capture(broken_off: Path) -> None:
    assert stat.S_IMODE(broken_off.stat().st_mode) == 0o700
    assert {stat.S_IMODE(member.stat().st_mode) for member in broken_off.iterdir()} == {0o600}
