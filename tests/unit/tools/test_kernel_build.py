# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels from a source that the user keeps: built elsewhere, configured once, built again at each call."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from guest_lib import kernel_build
from guest_lib.architectures import ARM64, X86_64
from guest_lib.errors import GuestError
from guest_lib.kernel_build import source_tree

# Stands for kbuild: writes down what it was asked for, but builds nothing.
SOURCE_MAKEFILE = """\
tinyconfig olddefconfig bzImage Image modules:
\t@echo $@ $(ARCH) >> $(O)/asked
\t@[ $@ != tinyconfig ] || echo CONFIG_TINY=y > $(O)/.config
"""


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A clean source, as far as it is looked at; nothing is installed, and modules are not indexed."""
    monkeypatch.setattr(kernel_build, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(kernel_build, "install", lambda names: None)
    monkeypatch.setattr(kernel_build, "venv_program", lambda name: Path("true"))
    monkeypatch.setattr(kernel_build, "BUILD_SPACE_BYTES", 0)
    source = tmp_path / "linux-next"
    source.mkdir()
    (source / "Makefile").write_text(SOURCE_MAKEFILE)
    (source / "Kconfig").touch()
    return source


def asked(tree: Path) -> list[str]:
    return [line.strip() for line in (tree / "asked").read_text().splitlines()]


def test_a_source_is_configured_once_and_built_at_each_call(source: Path) -> None:
    tree = source_tree(source, X86_64)
    assert set(asked(tree)) == {"tinyconfig", "olddefconfig", "bzImage", "modules"}
    config = (tree / ".config").read_text()
    assert config.startswith("CONFIG_TINY=y\n")
    assert "\nCONFIG_DEBUG_KMEMLEAK=y\n" in config
    (tree / "asked").unlink()
    assert source_tree(source, X86_64) == tree
    assert set(asked(tree)) == {"olddefconfig", "bzImage", "modules"}
    assert {path.name for path in source.iterdir()} == {"Makefile", "Kconfig"}


def test_other_settings_and_other_machines_are_built_beside(source: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.config"
    more.write_text("CONFIG_DUMMY=m\n")
    trees = {
        source_tree(source, X86_64),
        source_tree(source, ARM64),
        source_tree(source, X86_64, [more]),
    }
    assert len(trees) == 3
    assert all(tree.parent.name.startswith("guest-linux-next-") for tree in trees)
    assert any("CONFIG_DUMMY=m" in (tree / ".config").read_text() for tree in trees)


@pytest.mark.parametrize("trace", [".config", "include/config/auto.conf", "arch/x86/include/generated/x.h"])
def test_a_source_that_a_kernel_was_built_in_is_refused(source: Path, trace: str) -> None:
    (source / trace).parent.mkdir(parents=True, exist_ok=True)
    (source / trace).touch()
    with pytest.raises(GuestError, match="was configured or built in it") as raised:
        source_tree(source, X86_64)
    assert raised.value.fix == (
        f"boot that one: --tree {source}; or remove it, .config and all: make -C {source} mrproper"
    )


def test_what_is_no_source_is_refused(source: Path) -> None:
    (source / "Kconfig").unlink()
    with pytest.raises(GuestError, match="no kernel's source"):
        source_tree(source, X86_64)


def test_a_source_that_does_not_build_shows_the_end_of_its_log(source: Path) -> None:
    (source / "Makefile").write_text(f"tinyconfig:\n\t@echo {os.getpid()} is wrong; false\n")
    with pytest.raises(GuestError, match=f"cannot configure the kernel.*\n(.*\n)*{os.getpid()} is wrong"):
        source_tree(source, X86_64)
