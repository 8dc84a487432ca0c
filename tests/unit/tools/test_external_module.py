# SPDX-License-Identifier: GPL-2.0-or-later
"""External modules are built in a copy: what gets into it, what make is told, and what is said of a failure."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from made_up_tree import made_up_tree

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from guest_lib.architectures import ARM64
from guest_lib.errors import USAGE, GuestError
from guest_lib.external_module import build_module, built_modules, kbuild_variables

# Stands for kbuild: writes down what it was told.
TREE_MAKEFILE = """\
modules:
\t@! grep -s 'no C' $(M)/drv.c
\t@echo "$(KBUILD_EXTRA_SYMBOLS)|$(PWD)|$(KCFLAGS)" >> $(M)/told.mod
\t@touch $(M)/Module.symvers
\t@sed -n 's,obj-m := \\(.*\\),$(M)/\\1,p' $(M)/Makefile > $(M)/modules.order
\t@sed 's/o$$/ko/' $(M)/modules.order | xargs -r touch
"""
BUILT = {"drv.ko", "told.mod", "Module.symvers", "modules.order"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that builds nothing, but says what it was told."""
    made_up_tree(tmp_path / "linux")
    (tmp_path / "linux" / "Makefile").write_text(TREE_MAKEFILE)
    return tmp_path / "linux"


def driver(at: Path) -> Path:
    at.mkdir()
    (at / "Makefile").write_text("obj-m := drv.o\n")
    (at / "drv.c").write_text("int one;\n")
    return at


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_nothing_is_written_beside_the_source(tree: Path, tmp_path: Path) -> None:
    source = driver(tmp_path / "drv")
    build_module(source, tree, tmp_path / "copy")
    assert names(source) == {"Makefile", "drv.c"}
    assert names(tmp_path / "copy") == {"Makefile", "drv.c", *BUILT}


def test_make_names_the_copy_and_the_compiler_the_source(tree: Path, tmp_path: Path) -> None:
    source, copy = driver(tmp_path / "drv"), tmp_path / "copy"
    build_module(source, tree, copy)
    assert (copy / "told.mod").read_text() == f"|{copy}|-ffile-prefix-map={copy}={source}\n"


def test_only_what_has_changed_is_copied_whatever_its_date(tree: Path, tmp_path: Path) -> None:
    source, copy = driver(tmp_path / "drv"), tmp_path / "copy"
    build_module(source, tree, copy)
    before = {name: (copy / name).stat().st_mtime_ns for name in ("drv.c", "Makefile")}
    kept = (source / "drv.c").stat()
    (source / "drv.c").write_text("int two;\n")
    # As if an older version had been put back.
    os.utime(source / "drv.c", (kept.st_atime, kept.st_mtime - 1000))
    build_module(source, tree, copy)
    assert (copy / "drv.c").read_text() == "int two;\n"
    assert (copy / "drv.c").stat().st_mtime_ns > before["drv.c"]
    assert (copy / "Makefile").stat().st_mtime_ns == before["Makefile"]


def test_what_was_removed_goes_from_the_copy_and_what_was_built_stays(tree: Path, tmp_path: Path) -> None:
    source, copy = driver(tmp_path / "drv"), tmp_path / "copy"
    (source / "old.h").touch()
    build_module(source, tree, copy)
    (copy / "drv.o").touch()
    (source / "old.h").unlink()
    build_module(source, tree, copy)
    assert {"drv.o", "drv.ko", "told.mod"} < names(copy)
    assert "old.h" not in names(copy)


def test_what_was_built_for_another_kernel_is_not_taken_but_objects_of_others_are(tree: Path, tmp_path: Path) -> None:
    source, copy = driver(tmp_path / "drv"), tmp_path / "copy"
    for name in ("drv.o", "drv.ko", "drv.mod.c", "firmware.o", "empty.o", ".empty.o.cmd"):
        (source / name).touch()
    (source / ".drv.o.cmd").write_text("savedcmd_drv.o := gcc\n")
    build_module(source, tree, copy)
    assert names(copy) == {"Makefile", "drv.c", "firmware.o", "empty.o", *BUILT}


def test_a_module_is_given_the_symbols_of_those_before_it(tree: Path, tmp_path: Path) -> None:
    first, second = driver(tmp_path / "first"), driver(tmp_path / "second")
    (_, one), (_, other) = built_modules([first, second], tree, tmp_path / "modules")
    assert (other / "told.mod").read_text().startswith(f"{one}/Module.symvers|")


def test_directories_of_one_name_do_not_share_a_copy(tree: Path, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
    built = built_modules([driver(tmp_path / "a/drv"), driver(tmp_path / "b/drv")], tree, tmp_path / "modules")
    assert len({copy for _, copy in built}) == 2


def test_a_failure_shows_what_the_compiler_said_and_the_command(tree: Path, tmp_path: Path) -> None:
    source = driver(tmp_path / "drv")
    (source / "drv.c").write_text("this is no C\n")
    with pytest.raises(GuestError) as raised:
        build_module(source, tree, tmp_path / "copy")
    assert raised.value.status == USAGE
    assert "drv does not build:\nmake: Entering" in raised.value.what
    assert "this is no C" in raised.value.what
    assert f"make -C {tree} M={tmp_path}/copy modules" in raised.value.fix


def test_of_many_lines_those_from_the_first_error_on_are_shown_by_the_source_s_path(tree: Path, tmp_path: Path) -> None:
    source = driver(tmp_path / "drv")
    lines = [*["so far all is well"] * 30, "$(M)/drv.c:1:1: error: no", *["note: for many reasons"] * 30]
    recipe = "".join(f"\t@echo '{line}'\n" for line in lines)
    (tree / "Makefile").write_text(f"modules:\n{recipe}\t@false\n")
    with pytest.raises(GuestError) as raised:
        build_module(source, tree, tmp_path / "copy")
    shown = raised.value.what.splitlines()
    assert shown[1:3] == [f"{source}/drv.c:1:1: error: no", "note: for many reasons"]
    assert len(shown) == 21


def test_a_module_that_is_no_longer_built_goes(tree: Path, tmp_path: Path) -> None:
    source, copy = driver(tmp_path / "drv"), tmp_path / "copy"
    build_module(source, tree, copy)
    (source / "Makefile").write_text("obj-m := other.o\n")
    build_module(source, tree, copy)
    assert {path.name for path in copy.glob("*.ko")} == {"other.ko"}


def test_a_makefile_that_builds_no_module_is_refused(tree: Path, tmp_path: Path) -> None:
    source = driver(tmp_path / "drv")
    (source / "Makefile").write_text("obj-$(CONFIG_DRV) := drv.o\n")
    with pytest.raises(GuestError, match="make built no module") as raised:
        build_module(source, tree, tmp_path / "copy")
    assert "CONFIG_NAME=m tools/guest" in raised.value.fix


def test_a_directory_without_a_makefile_is_no_module(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(GuestError, match="no Makefile and no Kbuild"):
        build_module(tmp_path / "nothing", tree, tmp_path / "copy")


@pytest.mark.parametrize(
    ("changed", "variables"),
    [
        ({}, []),
        ({"CC_IS_CLANG": "y"}, ["LLVM=1"]),
        ({"CC_VERSION_TEXT": '"gcc (Debian 12.2.0-14) 12.2.0"'}, []),
        ({"CC_VERSION_TEXT": '"gcc-13 (Debian 13.2.0-1) 13.2.0"'}, ["CC=gcc-13"]),
        ({"CC_VERSION_TEXT": '"gcc-4 (an old one) 4.9"'}, []),
    ],
)
def test_make_is_told_which_compiler_built_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], variables: list[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name == "gcc-13" or None)
    assert kbuild_variables(made_up_tree(tmp_path / "linux", changed)) == variables


def test_make_is_told_of_another_machine(tmp_path: Path) -> None:
    assert kbuild_variables(made_up_tree(tmp_path / "linux", architecture=ARM64)) == list(ARM64.make)
