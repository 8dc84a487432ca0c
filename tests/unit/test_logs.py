# SPDX-License-Identifier: GPL-2.0-or-later
"""What `-v` tells of: each of it is really told, and where it does not disturb. Of probes: test_probe_attacher.py."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_kmemleak import MadeUpKmemleak
from made_up_source import MadeUpSource
from rich.console import Console
from rich.logging import RichHandler

from kleaktrace import logs
from kleaktrace.commands.judging import answered
from kleaktrace.core.evidence.evidence import Question
from kleaktrace.core.unwind.stack_paths import Change, Lead, Slot, StackPath, Way
from kleaktrace.edge.bpf import bcc_library, libbpf, program_cache, rdonly_cast
from kleaktrace.edge.bpf.bcc_library import Compiled
from kleaktrace.edge.bpf.bpf_object import BpfObject, Hook
from kleaktrace.edge.bpf.compiled_programs import Programs
from kleaktrace.edge.kmemleak import freelist_scrub
from kleaktrace.edge.kmemleak.client import scan_protocol
from kleaktrace.edge.tracing.stack_path_writer import StackPathWriter
from kleaktrace.session.drain import Drain
from kleaktrace.views.terminal import console

A = 0xFFFF888100010000


class Log:
    """What was said since the test began."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def has(self, *parts: str) -> bool:
        return any(all(part in one.getMessage() for part in parts) for one in self._caplog.records)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    caplog.set_level(logging.DEBUG, "kleaktrace")
    return Log(caplog)


@pytest.fixture
def configured() -> Iterator[None]:
    """Whatever `configure` sets is set back."""
    yield
    root = logging.getLogger("kleaktrace")
    root.handlers[:] = []
    root.setLevel(logging.NOTSET)
    root.propagate = True


def test_of_a_batch_it_is_told_how_full_the_ring_was_before_it_was_taken(log: Log) -> None:
    source = MadeUpSource()
    source.allocate(A)
    source.backlog = 0.25

    def emptied() -> None:
        source.backlog = 0.0

    source.before_poll = emptied
    drain = Drain(source)
    drain.finish()
    assert log.has("1 events; the ring was 25.0 % full")


def test_learning_is_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    bpf = BpfObject(Programs("GPL", (), {}), {}, {})
    monkeypatch.setattr(bpf, "write", lambda *_: True)
    writer = StackPathWriter(bpf, range(100, 200), 0)
    writer._apply(Change(paths=(StackPath(5, 6, (Slot(120, Way(3, Lead.DIRECT), 0),), False),)))
    assert log.has("1 stacks learned, 1 known")


def test_scans_are_told(log: Log) -> None:
    scan_protocol(MadeUpKmemleak(), 2, 0.0, sleep=lambda _: None)  # type: ignore[arg-type]
    assert log.has("scan 1 of 2 took", "0 listed")
    assert log.has("scan 2 of 2 took")


def test_questions_to_kmemleak_are_told(log: Log) -> None:
    kmemleak = MadeUpKmemleak()
    kmemleak.tracked = {A: 5}
    answered(kmemleak, [Question(A, 0, 5), Question(A + 64, 0, 5)], 250.0)  # type: ignore[arg-type]
    assert log.has("of 2 questions, kmemleak was asked 2: it has 1 of the objects")


def test_compiling_is_told_with_its_time(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(program_cache, "_ROOT", tmp_path.stat().st_uid)
    monkeypatch.setattr(bcc_library, "compile_programs", lambda *_: Compiled(Programs("GPL", (), {}), [__file__]))
    program_cache.compiled_programs({})
    assert log.has("programs", "were compiled in 0.")
    program_cache.compiled_programs({})
    assert log.has("programs", "are kept from an earlier start")


def test_what_is_not_loaded_ahead_is_told(log: Log) -> None:
    BpfObject(Programs("GPL", (), {}), {}, {}).load_ahead([Hook.raw_tracepoint("first_kfree")])
    assert log.has("first_kfree is not loaded ahead: there is no program first_kfree")


class Types:
    """Of a kernel that has `bpf_rdonly_cast` or not."""

    def __init__(self, function: int | None) -> None:
        self._function = function

    def function_id(self, _: str) -> int | None:
        return self._function

    def struct_id(self, _: str) -> int:
        return 2


def test_why_kernel_memory_is_copied_is_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(524, "not supported")

    monkeypatch.setattr(libbpf, "load_program", refused)
    assert rdonly_cast.plain_loads(Types(None)) == {}  # type: ignore[arg-type]
    assert log.has("copied piece by piece", "this kernel has no bpf_rdonly_cast")
    assert rdonly_cast.plain_loads(Types(1)) == {}  # type: ignore[arg-type]
    assert log.has("copied piece by piece", "bpf_rdonly_cast was refused: not supported")


def test_what_became_of_free_pages_is_told(log: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(freelist_scrub, "PAGETYPEINFO", tmp_path / "nothing")
    assert freelist_scrub.scrub_freelists() == 0
    assert log.has("free pages were not passed through a file", "No such file")


class Terminal(io.StringIO):
    """A terminal on which everything is kept that was ever written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("configured")
def test_on_a_terminal_the_log_and_what_turns_there_share_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    logs.configure(True)
    (handler,) = logging.getLogger("kleaktrace").handlers
    assert isinstance(handler, RichHandler)
    assert handler.console is console.make(stderr=True)
    shown: list[Console] = []
    with console.make(stderr=True).status("turning") as status:
        shown.append(status.console)
        logging.getLogger("kleaktrace.x").info("a line of the log")
    assert shown == [handler.console]
    assert isinstance(sys.stderr, Terminal)
    assert re.search(r"a line of the log *\n", sys.stderr.getvalue())
