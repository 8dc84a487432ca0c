# SPDX-License-Identifier: GPL-2.0-or-later
"""What a session learns is kept while it runs, and read back it is judged and reported as it was."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from builders import DRIVER, inside, module_image, suspect
from made_up_source import MadeUpSource

from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.loss import Loss, LossWindow, LostEvents
from kleaktrace.core.events.records import hide
from kleaktrace.core.evidence.rounds import RoundSeries, RoundSource
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.leaked_objects.anatomy import ObjectContents
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.machine.unexplained_memory import Unexplained
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import CommandResult
from kleaktrace.edge.capture.capture_reader import read_capture
from kleaktrace.edge.capture.capture_writer import CaptureWriter
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
        window = LossWindow(source.started.time_ns, source.started.time_ns + 5, 3, (1, 2, 0))
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
                missing=[Unexplained("pages", 4096, "are gone", (("mm/a.c:1 f", 4096),))],
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
