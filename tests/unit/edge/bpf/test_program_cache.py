# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of compiled programs: what is taken from it, and what is not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from kleaktrace.edge.bpf import bcc_library, program_cache
from kleaktrace.edge.bpf.bcc_library import Compiled
from kleaktrace.edge.bpf.compiled_programs import MapSpec, Programs
from kleaktrace.edge.bpf.program_cache import cache_directory, compiled_programs, trouble

MACROS: dict[str, str | int] = {"PAGE_BYTES": 4096}


class Compiler:
    """Stands in for clang: counts, and makes something else each time."""

    def __init__(self, directory: Path) -> None:
        self.runs = 0
        self.file = directory / "libLLVM-14.so.1"
        self.file.write_text("the compiler")

    def compile(self, text: str, headers: Path, macros: Mapping[str, str | int]) -> Compiled:
        assert "RECORD_ONCE(kmalloc" in text
        assert (headers / "include").is_dir()
        self.runs += 1
        code = self.runs.to_bytes(8, "little")
        programs = Programs("GPL", (MapSpec("events", 27, 0, 0, 4096, 0),), {"on_event": code})
        return Compiled(programs, [str(self.file)])


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiler:
    """An empty cache, and who fills it."""
    made = Compiler(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program_cache, "_ROOT", os.geteuid())
    monkeypatch.setattr(bcc_library, "compile_programs", made.compile)
    return made


def the_file() -> Path:
    (found,) = cache_directory().iterdir()
    return found


def test_the_second_start_does_not_compile(compiler: Compiler) -> None:
    first = compiled_programs(MACROS)
    assert compiled_programs(MACROS) == first
    assert compiler.runs == 1


def test_only_root_can_read_or_change_what_is_kept(compiler: Compiler) -> None:
    compiled_programs(MACROS)
    assert cache_directory().stat().st_mode & 0o777 == 0o700
    assert the_file().stat().st_mode & 0o777 == 0o600


def test_other_macros_are_other_programs(compiler: Compiler) -> None:
    first = compiled_programs(MACROS)
    assert compiled_programs({**MACROS, "FILTERED": 1}) != first
    assert compiled_programs({"PAGE_BYTES": 16384}) != first
    assert compiled_programs(MACROS) == first


def test_another_kernel_or_setting_of_bcc_is_not_the_same(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_programs(MACROS)
    system = os.uname()
    other = type(system)((system.sysname, system.nodename, "6.99", system.version, system.machine))
    with monkeypatch.context() as patch:
        patch.setattr(os, "uname", lambda: other)
        compiled_programs(MACROS)
    monkeypatch.setenv("BCC_PROBE_READ_USER", "1")
    compiled_programs(MACROS)
    assert compiler.runs == 3


@pytest.mark.parametrize("name", ["slab.c", "shim/include/linux/extra.h"])
def test_other_sources_or_headers_are_other_programs(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    sources = tmp_path / "bpf"
    for path in program_cache.source_directory().rglob("*.[ch]"):
        copy = sources / path.relative_to(program_cache.source_directory())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    monkeypatch.setattr(program_cache, "source_directory", lambda: sources)
    compiled_programs(MACROS)
    with (sources / name).open("a") as file:
        file.write("/* another */\n")
    compiled_programs(MACROS)
    assert compiler.runs == 2


def test_a_compiler_that_was_replaced_compiles_anew(compiler: Compiler) -> None:
    compiled_programs(MACROS)
    compiler.file.write_text("another compiler")
    compiled_programs(MACROS)
    compiled_programs(MACROS)
    assert compiler.runs == 2
    compiler.file.unlink()
    compiled_programs(MACROS)
    assert compiler.runs == 3


def test_a_damaged_file_is_replaced(compiler: Compiler) -> None:
    compiled_programs(MACROS)
    data = the_file().read_bytes()
    for damaged in (data[:-1], b"", data.replace(b'"events"', b'"evants"')):
        the_file().write_bytes(damaged)
        runs = compiler.runs
        compiled_programs(MACROS)
        compiled_programs(MACROS)
        assert compiler.runs == runs + 1


def test_a_file_of_another_key_is_not_taken_for_this_one(compiler: Compiler) -> None:
    compiled_programs(MACROS)
    foreign = the_file().read_bytes()
    the_file().unlink()
    other = {**MACROS, "FILTERED": 1}
    compiled_programs(other)
    the_file().write_bytes(foreign)
    compiled_programs(other)
    assert compiler.runs == 3


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_file_that_others_may_use_is_not_taken(compiler: Compiler, mode: int) -> None:
    compiled_programs(MACROS)
    the_file().chmod(mode)
    compiled_programs(MACROS)
    assert compiler.runs == 2
    assert the_file().stat().st_mode & 0o777 == 0o600


def test_a_link_is_not_followed(compiler: Compiler, tmp_path: Path) -> None:
    compiled_programs(MACROS)
    elsewhere = tmp_path / "elsewhere"
    the_file().rename(elsewhere)
    (cache_directory() / _key()).symlink_to(elsewhere)
    compiled_programs(MACROS)
    assert compiler.runs == 2
    cache_directory().rename(tmp_path / "moved")
    cache_directory().symlink_to(tmp_path / "moved")
    compiled_programs(MACROS)
    assert compiler.runs == 3


def _key() -> str:
    return program_cache._key(program_cache.source_directory(), MACROS, program_cache.TRACER)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770, 0o777])
def test_a_directory_that_others_may_use_is_neither_read_nor_written(compiler: Compiler, mode: int) -> None:
    compiled_programs(MACROS)
    cache_directory().chmod(mode)
    before = the_file().stat().st_mtime_ns
    compiled_programs(MACROS)
    assert compiler.runs == 2
    assert the_file().stat().st_mtime_ns == before
    assert "others" in trouble()


def test_what_is_not_roots_is_neither_read_nor_written(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_programs(MACROS)
    monkeypatch.setattr(program_cache, "_ROOT", os.geteuid() + 1)
    compiled_programs(MACROS)
    compiled_programs(MACROS)
    assert compiler.runs == 3
    assert trouble() == "it is not root's"


def test_without_a_place_to_keep_them_programs_are_compiled(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert compiled_programs(MACROS) != compiled_programs(MACROS)
    assert trouble()


def test_a_usable_place_is_no_trouble_and_stays_clean(compiler: Compiler) -> None:
    assert trouble() == ""
    assert list(cache_directory().iterdir()) == []


def test_a_cache_home_that_is_not_absolute_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert cache_directory() == Path("/var/cache/kleaktrace/programs")


def test_what_was_kept_longest_ago_goes_first(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_cache, "_MOST_FILES", 2)
    for number in range(3):
        compiled_programs({"NUMBER": number})
        for path in cache_directory().iterdir():  # older, all of them: whatever the clock's resolution
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    assert len(list(cache_directory().iterdir())) == 2
    compiled_programs({"NUMBER": 2})
    assert compiler.runs == 3
    compiled_programs({"NUMBER": 0})
    assert compiler.runs == 4
