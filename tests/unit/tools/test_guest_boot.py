# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest is booted with: its directories, its script, its kernel's parameters."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from guest_lib import guest
from guest_lib.architectures import ARM64, X86_64
from guest_lib.boot_files import ANY_KERNEL, BootFiles
from guest_lib.command_line import Options, parse_arguments
from guest_lib.guest import kernel_parameters, vng_command
from guest_lib.guest_script import guest_script
from guest_lib.paths import PROJECT
from guest_lib.shares import Share, mount_commands, qemu_options, shares


@pytest.fixture
def files(tmp_path: Path) -> BootFiles:
    """A kernel of the user's, with a module that was built."""
    for name in ("linux", "home/layout"):
        (tmp_path / name).mkdir(parents=True)
    module = (tmp_path / "drv", tmp_path / "home/modules/drv-1")
    return BootFiles(
        X86_64, tmp_path / "home/layout", tmp_path / "home", tmp_path / "linux", None, ANY_KERNEL, (module,)
    )


def options(*words: str) -> Options:
    return parse_arguments([*words, "--", "./test.sh", "two words"])


def test_what_lies_in_another_directory_is_mounted_after_it(files: BootFiles, tmp_path: Path) -> None:
    (tmp_path / "drv/out").mkdir(parents=True)
    found = [share.tag for share in shares(options("--rwdir", f"{tmp_path}/drv/out", "--rwdir", str(tmp_path)), files)]
    assert found.index("rw1") < found.index("module0") < found.index("rw0")
    assert found.index("rw1") < found.index("kernel0")


def test_qemu_is_told_what_may_be_written() -> None:
    every = [Share("project", Path("/p"), Path("/p")), Share("rw0", Path("/out"), Path("/out"), writable=True)]
    assert qemu_options(every, "pci") == (
        "-fsdev local,id=project,path=/p,security_model=none,multidevs=remap,readonly=on "
        "-device virtio-9p-pci,fsdev=project,mount_tag=project "
        "-fsdev local,id=rw0,path=/out,security_model=none,multidevs=remap "
        "-device virtio-9p-pci,fsdev=rw0,mount_tag=rw0"
    )


def test_pages_are_kept_only_of_what_the_guest_does_not_write() -> None:
    every = [Share("project", Path("/p"), Path("/p")), Share("rw0", Path("/out"), Path("/out"), writable=True)]
    plain = "version=9p2000.L,trans=virtio,access=any,msize=512000"
    assert mount_commands(every, keep_files=True).splitlines() == [
        f"share project /p ro,{plain},cache=loose",
        f"share rw0 /out rw,{plain}",
    ]


def test_a_module_s_directory_is_a_copy_in_memory(files: BootFiles, tmp_path: Path) -> None:
    lines = mount_commands(shares(options(), files), keep_files=False).splitlines()
    assert f"copy /run/kleaktrace/module0 {tmp_path}/drv" in lines


def test_the_command_runs_in_the_first_module_s_directory(files: BootFiles, tmp_path: Path) -> None:
    script = guest_script(options(), files)
    assert f"cd {tmp_path}/drv\n" in script
    assert f":{PROJECT}/.venv/bin HOME=/root" in script
    assert "./test.sh 'two words' < /dev/null" in script
    assert f"cd {PROJECT}\n" in guest_script(options(), replace(files, modules=()))


@pytest.mark.parametrize("words", [["--", "true"], ["--shell"], ["--shell", "--timeout", "9"]])
def test_the_script_is_one_that_bash_can_read(files: BootFiles, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "home/layout/.virtme_mods/lib/modules/0.0.0").mkdir(parents=True)
    script = guest_script(parse_arguments(words), files)
    subprocess.run(["bash", "-n", "-c", script], check=True)
    assert ("sysrq-trigger" in script) == math.isfinite(parse_arguments(words).timeout_s)
    assert f"ln -s {tmp_path}/home/layout/.virtme_mods" in script
    assert "-name '*.ko'" in script


def test_a_kernel_of_the_user_s_gets_what_it_may_not_be_configured_with(files: BootFiles) -> None:
    found = kernel_parameters(options("--append", "kmemleak=off"), files)
    assert found == ["oops=panic", "sysctl.vm.mem_profiling=0", "kmemleak=on", "init_on_alloc=1", "kmemleak=off"]


def test_an_oops_ends_the_guest_unless_told_otherwise(files: BootFiles) -> None:
    found = kernel_parameters(options("--no-panic"), files)
    assert "oops=panic" not in found
    assert "sysctl.kernel.panic_on_oops=0" in found


def test_directories_take_no_parameters_of_the_kernel(
    files: BootFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kernel that gets more than 32 it does not know panics.
    monkeypatch.setattr(guest, "venv_program", Path)
    few = vng_command(options(), files, tmp_path)
    many = vng_command(options(*["--rwdir", "/tmp"] * 9), files, tmp_path)
    assert len(few) == len(many)
    assert [word for word in many if word.startswith(("--rwdir", "--rodir"))] == [
        f"--rwdir=/run/kleaktrace/io={tmp_path}"
    ]


def test_a_shell_has_the_console_and_ends_where_the_kernel_panics(
    files: BootFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "venv_program", Path)
    command = vng_command(parse_arguments(["--shell"]), files, tmp_path)
    assert command[-2:] == ["--shell", "/run/kleaktrace/io/run"]
    assert "panic=-1" in command
    assert any(word.startswith("--qemu-opts=") and word.endswith("-no-reboot") for word in command)
    assert "--exec" not in command


def test_devices_are_named_after_the_machine_s_bus(
    files: BootFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest, "venv_program", Path)
    command = vng_command(options(), replace(files, architecture=ARM64), tmp_path)
    assert any("-device virtio-9p-device,fsdev=project" in word for word in command)
