# SPDX-License-Identifier: GPL-2.0-or-later
"""Source lines of a kernel and a module that gcc has just built, by each program that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from debug_builds import DRIVER, HEADER, MAIN, DebugBuild, build, line_of

from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines
from kleaktrace.edge.debug_info import debug_files, lookup, symbolizer
from kleaktrace.edge.debug_info.elf_file import ElfFile
from kleaktrace.edge.debug_info.lookup import Program, look_up
from kleaktrace.edge.debug_info.symbolizer import Symbolizer

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place in ("SYSTEM", "INSTALLED", "GUESTS"):
        monkeypatch.setattr(debug_files, place, tmp_path / "installed" / place)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DebugBuild:
    return build(tmp_path_factory.mktemp("debug"))


def found(built: DebugBuild, *directories: Path, **build_ids: str) -> SourceLines:
    frames = [built.initcall, built.probe, built.init, "0xffffffffc0000000", "gone+0x1/0x2"]
    ids = {**built.build_ids, **{name.replace("kernel", ""): one for name, one in build_ids.items()}}
    return look_up(frames, built.kernel, ids, directories or [built.directory])


def expected(built: DebugBuild) -> dict[str, tuple[SourceLine, ...]]:
    return {
        built.initcall: (SourceLine("do_one_initcall", "init/main.c", line_of(MAIN, "do_one_initcall")),),
        built.probe: (
            SourceLine("drv_get", "drivers/drv.h", line_of(HEADER, "drv_get"), True),
            SourceLine("drv_probe", "drivers/drv.c", line_of(DRIVER, "drv_probe")),
        ),
        built.init: (SourceLine("drv_init", "drivers/drv.c", line_of(DRIVER, "drv_init")),),
    }


@pytest.mark.parametrize("program", lookup._programs(), ids=lambda program: program.name)
def test_lines_are_those_of_the_calls(built: DebugBuild, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_programs", lambda: [program])
    told = found(built)
    assert told.known == expected(built)
    assert told.missing == []


def test_compressed_debug_information_of_a_module_is_read(tmp_path: Path) -> None:
    built = build(tmp_path, ("-gz=zlib",))
    subprocess.run(["objcopy", "--compress-debug-sections=zlib", built.module], check=True)
    assert any(s.flags & 0x800 for s in ElfFile(built.module).sections)
    assert found(built).known == expected(built)


def test_another_build_is_refused_and_said(built: DebugBuild) -> None:
    told = found(built, kernel="ab" * 20)
    assert set(told.known) == {built.probe, built.init}
    (sentence,) = told.missing
    assert f"no source lines for the kernel: {built.vmlinux} is of another build" in sentence
    assert "abababababab…" in sentence


def test_the_right_build_is_found_behind_a_wrong_one(built: DebugBuild, tmp_path: Path) -> None:
    other = build(tmp_path, ("-DOTHER", "-O1"))
    assert other.build_ids != built.build_ids
    assert found(built, other.directory, built.directory).known == expected(built)
    assert found(built, other.directory).known == {}


def test_without_build_ids_functions_must_be_as_long(built: DebugBuild) -> None:
    unknown = replace(built, build_ids={})
    assert set(found(unknown).known) == set(expected(built))
    frame = built.initcall.rpartition("/")[0] + "/0xfff0"
    assert look_up([frame], built.kernel, {}, [built.directory]).known == {}
    assert set(look_up([frame], built.kernel, built.build_ids, [built.directory]).known) == {frame}


def test_files_are_found_by_build_id(built: DebugBuild, tmp_path: Path) -> None:
    for path in (built.vmlinux, built.module):
        build_id = ElfFile(path).build_id
        place = tmp_path / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    assert found(built, tmp_path).known == expected(built)


def test_distributions_files_are_found(built: DebugBuild, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(debug_files, "SYSTEM", tmp_path)
    release = built.kernel.release
    (tmp_path / "boot").mkdir()
    shutil.copy(built.vmlinux, tmp_path / "boot" / f"vmlinux-{release}")
    modules = tmp_path / "lib/modules" / release / "kernel/drivers"
    modules.mkdir(parents=True)
    shutil.copy(built.module, modules / "drv.ko.debug")
    assert found(built, tmp_path / "boot").known == expected(built)


def test_a_guest_s_tree_is_known_by_build_id_but_not_read_in_the_guest_itself(built: DebugBuild) -> None:
    for number, file in enumerate([built.module, built.vmlinux]):  # the first one is of another build
        tree = debug_files.GUESTS / f"guest-{number}" / "linux"
        tree.mkdir(parents=True)
        shutil.copy(file, tree / "vmlinux")
    lines = look_up([built.initcall], built.kernel, built.build_ids)
    assert lines.known == {built.initcall: expected(built)[built.initcall]}
    assert look_up([built.initcall], built.kernel, built.build_ids, live=True).known == {}


def test_what_is_missing_is_said_with_its_package(built: DebugBuild, tmp_path: Path) -> None:
    debian = replace(built, kernel=replace(built.kernel, release="6.12.41+deb13-amd64"))
    installed = debug_files.INSTALLED / debian.kernel.release / "kernel"
    installed.mkdir(parents=True)
    (installed / "drv.ko.xz").write_bytes(b"\xfd7zXZ")
    (tmp_path / "empty").mkdir()
    kernel, module = found(debian, tmp_path / "empty").missing
    assert "for the kernel: apt install linux-image-6.12.41+deb13-amd64-dbg, or give the directory of a vml" in kernel
    assert f"for drv: {installed}/drv.ko.xz is compressed: apt install linux-image-6.12" in module
    kernel, module = found(built, tmp_path / "empty").missing
    assert "no source lines for the kernel: give the directory of a vmlinux built with CONFIG_DEBUG_INFO" in kernel
    assert "no source lines for drv: give the directory of a drv.ko built with CONFIG_DEBUG_INFO: --debug" in module


def test_a_file_without_debug_information_is_said(built: DebugBuild, tmp_path: Path) -> None:
    for path in (built.vmlinux, built.module):
        subprocess.run(["strip", "--strip-debug", "-o", tmp_path / path.name, path], check=True)
    assert [sentence.count("has no debug information") for sentence in found(built, tmp_path).missing] == [1, 1]


def test_files_for_other_machines_are_refused(built: DebugBuild) -> None:
    other = "aarch64" if built.kernel.arch == "x86_64" else "x86_64"
    told = found(replace(built, kernel=replace(built.kernel, arch=other)))
    assert told.known == {}
    assert all("is for another architecture" in sentence for sentence in told.missing)


def test_without_a_program_it_says_which(built: DebugBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolizer.shutil, "which", lambda name: None)
    monkeypatch.setattr(lookup, "installed_drgn", lambda: None)
    told = found(built)
    assert told.known == {}
    assert told.missing == [
        "no source lines: there is neither llvm-symbolizer nor addr2line nor drgn: apt install llvm, or binutils"
    ]


def program(path: Path, script: str) -> Symbolizer:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Symbolizer(str(path))


def test_one_that_fails_is_followed_by_the_next(
    built: DebugBuild, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = program(tmp_path / "llvm-symbolizer", "exit 1")
    monkeypatch.setattr(lookup, "_programs", lambda: [broken, Symbolizer(shutil.which("addr2line") or "")])
    assert found(built).known == expected(built)


@pytest.mark.parametrize("script", ["exit 1", "yes", "cat /dev/zero", "echo 0x1; cat", "read a; printf '%s' $a"])
def test_one_that_talks_nonsense_says_nothing(
    built: DebugBuild, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    monkeypatch.setattr(lookup, "_programs", lambda: [program(tmp_path / "addr2line", script)])
    told = found(built)
    assert told.known == {}
    assert all("addr2line failed after" in sentence for sentence in told.missing)


def test_one_that_hangs_is_ended(built: DebugBuild, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lookup, "_programs", lambda: [program(tmp_path / "addr2line", "exec sleep 1000")])
    monkeypatch.setattr(lookup, "_MOST_S", 0.2)
    begun = time.monotonic()
    told = found(built)
    assert time.monotonic() - begun < 60
    assert told.known == {}
    assert "addr2line took too long after 0 of" in told.missing[0]


def test_progress_is_told(built: DebugBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_REPORTED", 1)
    told: list[tuple[int, int]] = []
    look_up([built.probe, built.init], built.kernel, {}, [built.directory], lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("release", ["../../../etc", "/etc", "", "a\nb", "x" * 10_000])
def test_a_release_leads_nowhere(built: DebugBuild, release: str, tmp_path: Path) -> None:
    told = found(replace(built, kernel=replace(built.kernel, release=release)), tmp_path, kernel="../../../etc/passwd")
    assert told.known == {}
    assert len(told.missing) == 2


def test_a_pipe_in_place_of_a_file_stops_nobody(built: DebugBuild, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vmlinux")
    os.mkfifo(tmp_path / "drv.ko")
    assert found(built, tmp_path, built.directory).known == expected(built)
