# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds a piece's modules out of the kernel's tree, from a copy of their source with the edits in it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from guest_lib.external_module import kbuild_variables

from museum_lib.edit import Edit, EditFailed, apply_all
from museum_lib.piece import Module, Piece

_FORMAT = 2
"""Counted up when modules are built in another way."""

_BUILT = (".o", ".ko", ".cmd", ".mod", ".mod.c", ".order", ".symvers", ".a", ".d")
Say = Callable[[str], None]


class BuildFailed(Exception):
    """A piece whose modules do not build; the text says what the compiler said."""


def modules(tree: Path, piece: Piece, *, edited: bool, say: Say) -> dict[str, Path]:
    """A piece's modules by name, edited or as the kernel has them; built now if they have not been.

    They are kept beside the kernel's tree, by content. Raises BuildFailed, and EditFailed where an edit doesn't fit.
    """
    return built(tree, piece.modules, piece.edits if edited else (), say)


def built(tree: Path, several: Sequence[Module], edits_of_all: Sequence[Edit], say: Say) -> dict[str, Path]:
    """The same for modules that are no piece's."""
    found: dict[str, Path] = {}
    symbols: list[Path] = []
    for directory in dict.fromkeys(module.directory for module in several):
        wanted = [module for module in several if module.directory == directory]
        edits = [edit for edit in edits_of_all if edit.file.rpartition("/")[0] == directory]
        in_tree = {module.name: tree / f"{module.path}.ko" for module in wanted}
        if not edits and all(path.exists() for path in in_tree.values()) and not any(map(_sets_values, wanted)):
            found |= in_tree
            continue
        of_directory = _built(tree, wanted, edits, symbols, say)
        symbols.append(next(iter(of_directory.values())).parent / "Module.symvers")
        found |= of_directory
    return found


def _sets_values(module: Module) -> bool:
    """Whether it is to be built with other settings than the kernel's own."""
    return any("=" in option for option in module.config)


def _built(
    tree: Path, wanted: Sequence[Module], edits: Sequence[Edit], symbols: Sequence[Path], say: Say
) -> dict[str, Path]:
    home = tree.parent / "museum" / _key(wanted, edits, symbols)
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = {module.name: home / f"{module.name}.ko" for module in wanted}
        if not all(path.exists() for path in files.values()):
            say(f"building {', '.join(files)}" + ("" if edits else ", unedited"))
            _build(tree, wanted, edits, symbols, home)
    return files


def _key(wanted: Sequence[Module], edits: Sequence[Edit], symbols: Sequence[Path]) -> str:
    parts = [_FORMAT, [*map(asdict, wanted), *map(asdict, edits)], [str(path) for path in symbols]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _build(tree: Path, wanted: Sequence[Module], edits: Sequence[Edit], symbols: Sequence[Path], home: Path) -> None:
    directory = wanted[0].directory
    with _place(home / "build") as copy:
        link_around(tree, copy, directory)
        for file in dict.fromkeys(edit.file for edit in edits):
            write_edited(tree, copy, file, [edit for edit in edits if edit.file == file])
        _make(tree, copy / directory, wanted, symbols)
        (copy / directory / "Module.symvers").rename(home / "Module.symvers")
        for module in wanted:
            (copy / f"{module.path}.ko").rename(home / f"{module.name}.ko")


@contextlib.contextmanager
def _place(path: Path) -> Iterator[Path]:
    """An empty directory, which is removed in the end, unless it failed: then it is there to be looked at."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    yield path
    shutil.rmtree(path)


def link_around(tree: Path, copy: Path, directory: str) -> None:
    """Copy a directory, as links to its files, and as links what lies beside it and above, where `../x.h` is."""
    parts = Path(directory).parts
    for depth in range(len(parts)):
        above = Path(*parts[:depth])
        (copy / above).mkdir(exist_ok=True)
        for entry in os.scandir(tree / above):
            link = copy / above / entry.name
            if depth and entry.name != parts[depth] and not os.path.lexists(link) and _is_source(entry.name):
                link.symlink_to(entry.path)
    for place, _, files in os.walk(tree / directory):
        here = copy / os.path.relpath(place, tree)
        if here.is_symlink():
            here.unlink()
        here.mkdir(exist_ok=True)
        for file in files:
            if _is_source(file):
                (here / file).symlink_to(f"{place}/{file}")


def _is_source(name: str) -> bool:
    return not name.endswith(_BUILT)


def write_edited(tree: Path, copy: Path, file: str, edits: Sequence[Edit]) -> None:
    """Replace a file of the copy, which is a link so far, by an edited one; raises EditFailed."""
    source = tree / file
    if not source.exists():
        raise EditFailed(f"{file}:0: the kernel's tree has no such file")
    text = apply_all(source.read_text(), edits)
    (copy / file).unlink()  # a link into the tree
    (copy / file).write_text(text)


def _make(tree: Path, directory: Path, wanted: Sequence[Module], symbols: Sequence[Path]) -> None:
    options = [_option(option) for option in sorted({option for module in wanted for option in module.config})]
    made = subprocess.run(
        [
            *("make", "-C", str(tree), f"M={directory}", f"-j{os.cpu_count() or 1}", *kbuild_variables(tree)),
            *(f"{name}={value}" for name, value in options),
            f"KCFLAGS={' '.join(_define(name, value) for name, value in options)}",
            f"KBUILD_EXTRA_SYMBOLS={' '.join(map(str, symbols))}",
            *(f"{module.name}.ko" for module in wanted),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode:
        raise BuildFailed("\n".join(made.stdout.splitlines()[-25:]))


def _option(option: str) -> tuple[str, str]:
    name, _, value = option.partition("=")
    return name, value or "m"


def _define(name: str, value: str) -> str:
    """The option as C sees it (include/linux/kconfig.h)."""
    return {"m": f"-D{name}_MODULE=1", "y": f"-D{name}=1"}.get(value, f"-D{name}={value}")
