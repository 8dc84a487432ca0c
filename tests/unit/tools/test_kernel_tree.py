# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree that the user has built: what is said of it, and what is made of it without writing to it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from made_up_tree import config_text, made_up_tree

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from guest_lib import kernel_tree, tree_layout
from guest_lib.architectures import ARM64, X86_64, Architecture
from guest_lib.errors import ENVIRONMENT, USAGE, GuestError
from guest_lib.kernel_tree import printed_config, usable_tree
from guest_lib.tree_layout import INDEX, lay_out, tree_home

RUN = ("kleaktrace", "run", "--", "./test.sh")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What would have been installed of packages."""
    packages: list[str] = []
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(tree_layout, "cache_directory", lambda: cache)
    monkeypatch.setattr(kernel_tree, "install", packages.extend)
    return packages


@pytest.fixture
def tree(installed: list[str], tmp_path: Path) -> Path:
    """A place for a tree, where nothing gets installed."""
    return tmp_path / "linux"


def refused(
    tree: Path, asked: Architecture | None = None, command: tuple[str, ...] = RUN, *, has_modules: bool = False
) -> GuestError:
    with pytest.raises(GuestError) as raised:
        usable_tree(tree, asked, command, has_modules=has_modules)
    return raised.value


@pytest.mark.parametrize("architecture", [X86_64, ARM64])
def test_the_tree_says_what_machine_it_is_for(
    tree: Path, architecture: Architecture, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up_tree(tree, architecture=architecture)
    assert usable_tree(tree, None, RUN) is architecture
    assert capsys.readouterr().err == ""


def test_another_machine_is_refused(tree: Path) -> None:
    made_up_tree(tree)
    error = refused(tree, ARM64)
    assert (error.status, error.what) == (USAGE, f"{tree} is configured for x86_64")
    (tree / ".config").write_text("CONFIG_RISCV=y\n")
    assert "another machine than x86_64 or arm64" in refused(tree).what


def test_what_booting_cannot_do_without_is_refused_option_by_option(tree: Path) -> None:
    made_up_tree(tree, {"9P_FS": "n", "DEVTMPFS": "n", "NET_9P_VIRTIO": "m", "CMDLINE_OVERRIDE": "y"})
    error = refused(tree, command=("true",))
    assert error.status == ENVIRONMENT
    assert error.what.splitlines() == [
        f"{tree}: the guest does not boot as it is configured:",
        "  CONFIG_9P_FS is not set: the root file system, which is this machine's",
        "  CONFIG_DEVTMPFS is not set: device files",
        "  CONFIG_CMDLINE_OVERRIDE ignores the parameters that the guest is booted with",
        "  CONFIG_BLK_DEV_INITRD is not set: the initramfs, which loads those modules that mount the root",
    ]
    assert error.fix == (
        f"tools/guest --tree {tree} --print-config >> {tree}/.config && make -C {tree} olddefconfig && "
        f"make -C {tree} -j{os.cpu_count()}"
    )


def test_what_only_weakens_is_said(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up_tree(tree, {"DEBUG_KMEMLEAK": "n", "OVERLAY_FS": "n"})
    usable_tree(tree, None, RUN)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        "guest: the guest can do less: CONFIG_OVERLAY_FS is not set: to write to /etc, /home, /lib, /opt, /usr, /var",
        "guest: kleaktrace sees less: CONFIG_DEBUG_KMEMLEAK is not set: kmemleak, without which only repetition and "
        "unloaded modules convict",
    ]
    assert said[2].startswith("guest: for all of it: tools/guest --tree")


def test_kleaktrace_s_needs_are_refused_where_it_is_run_and_said_elsewhere(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up_tree(tree, {"DEBUG_INFO_BTF": "n"})
    assert "kleaktrace does not run as it is configured" in refused(tree).what
    assert "CONFIG_DEBUG_INFO_BTF" in refused(tree, command=("sudo", "/x/bin/kleaktrace", "doctor")).what
    usable_tree(tree, None, ("./test.sh",))
    assert "kleaktrace does not run: CONFIG_DEBUG_INFO_BTF is not set" in capsys.readouterr().err


def test_modules_are_needed_where_one_is_to_be_built(tree: Path) -> None:
    made_up_tree(tree, {"MODULES": "n"})
    usable_tree(tree, None, RUN)
    assert "no module can be loaded" in refused(tree, has_modules=True).what


def test_a_tree_that_is_not_built_is_told_from_one_that_is_none(tree: Path) -> None:
    tree.mkdir()
    assert "is no kernel's tree" in refused(tree).what
    (tree / "Kconfig").touch()
    assert "is the source of a kernel, but not configured" in refused(tree).what
    assert f"--source {tree}" in refused(tree).fix
    (tree / ".config").write_text(config_text())
    error = refused(tree)
    assert error.what == f"{tree} is configured, but not built: it has no arch/x86/boot/bzImage"
    assert error.fix == f"make -C {tree} -j{os.cpu_count()}"


def test_without_the_symbols_of_its_modules_none_builds(tree: Path) -> None:
    made_up_tree(tree)
    (tree / "Module.symvers").unlink()
    usable_tree(tree, None, RUN)
    assert "no Module.symvers" in refused(tree, has_modules=True).what


def test_a_configuration_that_is_newer_than_the_build_is_said(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up_tree(tree)
    built = tree / "include/config/auto.conf"
    built.parent.mkdir(parents=True)
    built.touch()
    os.utime(tree / ".config", (1, 1))
    usable_tree(tree, None, RUN)
    assert capsys.readouterr().err == ""
    os.utime(built, (0, 0))
    usable_tree(tree, None, RUN)
    assert ".config is newer than what was built" in capsys.readouterr().err


def test_what_loads_modules_at_boot_is_installed_only_if_there_are_such(tree: Path, installed: list[str]) -> None:
    made_up_tree(tree)
    usable_tree(tree, None, RUN)
    assert "busybox-static" not in installed
    assert "dwarves" not in installed
    made_up_tree(tree, {"9P_FS": "m", "BLK_DEV_INITRD": "y"})
    usable_tree(tree, None, RUN, has_modules=True)
    assert {"busybox-static", "dwarves", "make"} <= set(installed)


def test_printed_config_is_what_the_tree_lacks(tree: Path) -> None:
    made_up_tree(tree, {"BPF_JIT": "n"})
    assert printed_config(tree, None).splitlines() == [
        f"# What tools/guest and kleaktrace need of a kernel, and {tree} lacks. To merge it:",
        f"#   tools/guest --tree {tree} --print-config >> .config && make olddefconfig",
        "# fast BPF programs, and fentry; without, kleaktrace sees less",
        "CONFIG_BPF_JIT=y",
    ]
    made_up_tree(tree)
    assert printed_config(tree, None) == f"# {tree} lacks nothing that tools/guest and kleaktrace need.\n"


def test_printed_config_without_a_tree_is_all_of_an_architecture_s() -> None:
    assert "CONFIG_SERIAL_8250_CONSOLE=y" in printed_config(None, None)
    assert "CONFIG_SERIAL_AMBA_PL011_CONSOLE=y" in printed_config(None, ARM64)
    assert "8250" not in printed_config(None, ARM64)


def files_of(tree: Path) -> set[tuple[Path, float]]:
    return {(path, path.stat().st_mtime) for path in tree.rglob("*")}


def test_a_tree_is_laid_out_elsewhere_and_not_written_to(tree: Path) -> None:
    made_up_tree(tree, modules=("drivers/net/dummy", "fs/9p/9p"))
    before = files_of(tree)
    place = lay_out(tree, X86_64, tree_home(tree))
    assert files_of(tree) == before
    assert (place / "arch/x86/boot/bzImage").readlink() == tree / "arch/x86/boot/bzImage"
    assert (place / INDEX / "kernel/fs/9p/9p.ko").readlink() == tree / "fs/9p/9p.ko"
    # Else virtme-ng would make its own index.
    assert (place / "modules.order").stat().st_mtime <= (place / INDEX / "modules.dep").stat().st_mtime


def test_modules_are_indexed_again_only_when_they_were_built_again(tree: Path) -> None:
    made_up_tree(tree, modules=("drivers/net/dummy",))
    home = tree_home(tree)
    index = lay_out(tree, X86_64, home) / INDEX
    (index / "mark").touch()
    lay_out(tree, X86_64, home)
    assert (index / "mark").exists()
    made_up_tree(tree, modules=("drivers/net/veth",))
    later = (index / "modules.dep").stat().st_mtime + 1
    os.utime(tree / "modules.order", (later, later))
    lay_out(tree, X86_64, home)
    assert [path.name for path in (index / "kernel").rglob("*.ko")] == ["veth.ko"]
    assert not (index / "mark").exists()


def test_names_of_modules_are_read_as_older_kernels_wrote_them(tree: Path) -> None:
    made_up_tree(tree, modules=("fs/a", "fs/b"))
    (tree / "modules.order").write_text("kernel/fs/a.ko\nfs/b.ko\nfs/not-built.ko\n")
    index = lay_out(tree, X86_64, tree_home(tree)) / INDEX / "kernel"
    assert sorted(str(path.relative_to(index)) for path in index.rglob("*.ko")) == ["fs/a.ko", "fs/b.ko"]


def test_a_tree_without_modules_has_no_index(tree: Path) -> None:
    made_up_tree(tree)
    (tree / "modules.order").unlink()
    assert not (lay_out(tree, X86_64, tree_home(tree)) / INDEX).exists()
