# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting with programs that were compiled before: the same programs, from a cache that nobody else can fill."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from host_tools import load_on_all_cores, running

from kleaktrace.edge.bpf import bcc_library, program_cache
from kleaktrace.edge.bpf.bcc_library import Compiled
from kleaktrace.edge.bpf.bpf_object import AttachRefused, BpfObject
from kleaktrace.edge.bpf.compiled_programs import MapSpec, Programs
from kleaktrace.edge.bpf.program_cache import cache_directory
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.live import live_session

COMPILER = re.compile(r"/lib(bcc|clang|LLVM)")
ENOUGH = 1000


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Programs]:
    """An empty cache, and the list of what clang will compile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[Programs] = []
    compile_programs = bcc_library.compile_programs

    def compile_and_note(text: str, headers: Path, macros: Mapping[str, str | int]) -> Compiled:
        done = compile_programs(text, headers, macros)
        made.append(done.programs)
        return done

    monkeypatch.setattr(bcc_library, "compile_programs", compile_and_note)
    return made


def the_file() -> Path:
    (found,) = cache_directory().iterdir()
    return found


def traced(load: Path, **options: Any) -> tuple[set[tuple[str, str | None]], int]:
    """What a session covers, and how many allocations of a load it sees."""
    with load_on_all_cores(load, "kt-start", "sockets", 600), live_session(**options) as session:
        seen = 0
        while seen < ENOUGH:
            seen = session.counts().totals.allocations
        with session.looking() as recording:
            return {(one.kind, one.source) for one in recording.coverage}, recording.loss.events


def test_the_second_start_compiles_nothing_and_traces_the_same(load: Path, compiled: list[Programs]) -> None:
    told: list[None] = []
    first = traced(load, compiling=lambda: told.append(None))
    assert len(compiled) == len(told) == 1
    assert traced(load, compiling=lambda: told.append(None)) == first
    assert len(compiled) == len(told) == 1, "the second start used what was kept"


def test_what_is_kept_is_what_clang_makes(compiled: list[Programs], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte: of every function, and of every map."""
    taken: list[Programs] = []
    monkeypatch.setattr(
        "kleaktrace.edge.tracing.tracer.BpfObject", lambda programs, *_: taken.append(programs) or _stop()
    )
    for _ in range(2):
        with pytest.raises(_Stop):
            Tracer()
    the_file().unlink()
    with pytest.raises(_Stop):
        Tracer()
    assert len(compiled) == 2
    assert taken[0] == taken[1] == taken[2]
    assert len(taken[1].functions) > 10


class _Stop(Exception):
    """Far enough."""


def _stop() -> None:
    raise _Stop


def test_other_filters_are_other_programs_but_another_process_is_not(load: Path, compiled: list[Programs]) -> None:
    with Tracer(), Tracer(Filters(min_size=64)):
        pass
    assert len(compiled) == 2
    for process in (os.getpid(), 1):
        with Tracer(Filters(pid=process)):
            pass
    assert len(compiled) == 3


def test_the_compiler_is_never_in_the_process_that_traces(compiled: list[Programs], tmp_path: Path) -> None:
    for kept in (False, True):
        assert cache_directory().is_dir() is kept
        with running(tmp_path, "trace", "--duration", 60) as process:
            process.wait_for_probes()
            mapped = COMPILER.search(Path(f"/proc/{process.pid}/maps").read_text())
            process.signal(signal.SIGINT)
            assert process.end().status == 0
        assert mapped is None


def test_a_damaged_file_is_ignored_and_replaced(load: Path, compiled: list[Programs]) -> None:
    with Tracer():
        pass
    whole = the_file().read_bytes()
    middle = len(whole) // 2
    the_file().write_bytes(
        whole[:middle] + (b"0" if whole[middle : middle + 1] != b"0" else b"1") + whole[middle + 1 :]
    )
    traced(load)
    assert len(compiled) == 2
    assert the_file().read_bytes() == whole


def test_a_file_that_is_not_roots_is_ignored_and_replaced(load: Path, compiled: list[Programs]) -> None:
    with Tracer():
        pass
    os.chown(the_file(), 65534, 65534)
    traced(load)
    assert len(compiled) == 2
    assert the_file().stat().st_uid == 0


@pytest.mark.parametrize("wrong", ["owner", "mode"])
def test_a_directory_that_others_can_fill_is_not_used(load: Path, compiled: list[Programs], wrong: str) -> None:
    with Tracer():
        pass
    if wrong == "owner":
        os.chown(cache_directory(), 65534, 65534)
    else:
        cache_directory().chmod(0o777)
    the_file().write_bytes(b"")
    traced(load)
    assert len(compiled) == 2
    assert the_file().read_bytes() == b"", "nor is it written to"


def test_where_nothing_can_be_kept_tracing_works_all_the_same(
    load: Path, compiled: list[Programs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert traced(load) == traced(load)
    assert len(compiled) == 2
    assert program_cache.trouble()


def test_the_kernel_refuses_a_program_whose_values_were_forgotten() -> None:
    load_value = bytes([0x18, 0xF0]) + bytes(14)  # r0 = value 0
    code = load_value + bytes([0x95]) + bytes(7)
    spec = MapSpec("counters", 6, 4, 8, 1, 0)

    class Forgetful(Programs):
        def linked(self, function: str, *_: object) -> bytes:
            return self.functions[function]

    for kind, refused in ((Programs, False), (Forgetful, True)):
        bpf = BpfObject(kind("GPL", (spec,), {"on_event": code}), {"SELF": 0}, {})
        try:
            if refused:
                with pytest.raises(AttachRefused, match="was not loaded"):
                    bpf.attach_raw_tracepoint("sys_enter", "on_event")
            else:
                bpf.attach_raw_tracepoint("sys_enter", "on_event")
        finally:
            bpf.close()
