# SPDX-License-Identifier: GPL-2.0-or-later
"""External modules, built against a kernel's tree from a copy, so that nothing is written beside their source."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from guest_lib.cache import locked
from guest_lib.errors import USAGE, GuestError, say
from guest_lib.kernel_config import config_of

# What kbuild makes. It is neither taken from the source, where it may be of another kernel, nor removed from the copy,
# where it is of this one.
OBJECTS = ("*.o", "*.a")
MADE = (*OBJECTS, "*.ko", "*.mod", "*.mod.c", ".*.cmd", ".tmp_versions", "modules.order", "Module.symvers")
_VERSIONED = re.compile(r"[\w-]*gcc-[\d.]+")
SHOWN_LINES = 20
"""Of what make said, if a module does not build."""


def built_modules(directories: Sequence[Path], tree: Path, home: Path) -> tuple[tuple[Path, Path], ...]:
    """Build external modules below `home`; return each of the directories with the one that it was built in.

    One that uses another's symbols must come after it.
    """
    built: list[tuple[Path, Path]] = []
    for directory in directories:
        key = hashlib.sha256(str(directory).encode()).hexdigest()[:8]
        target = home / f"{directory.name}-{key}"
        say(f"building {directory}")
        build_module(directory, tree, target, symbols=[each / "Module.symvers" for _, each in built])
        built.append((directory, target))
    return tuple(built)


def build_module(source: Path, tree: Path, target: Path, symbols: Sequence[Path] = ()) -> None:
    """Build an external module against a tree, in a copy of its source; what has not changed is not built again.

    symbols: the Module.symvers of modules whose symbols it uses. Raises `GuestError` with what the compiler said.
    """
    if not any((source / name).is_file() for name in ("Kbuild", "Makefile", "makefile")):
        raise GuestError(
            f"{source}: no Makefile and no Kbuild, so this is no external module",
            "one line will do: echo 'obj-m := NAME.o' > Makefile",
            USAGE,
        )
    target.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f"{target.name}.lock")):
        _copy(source, target)
        command = ["make", "-C", str(tree), f"M={target}", *kbuild_variables(tree), "modules"]
        if symbols:
            command.append("KBUILD_EXTRA_SYMBOLS=" + " ".join(map(str, symbols)))
        # Makefiles name their directory by $(PWD), which make -C leaves as it is. Reports are to name the source, and
        # not its copy.
        flags = f"{os.environ.get('KCFLAGS', '')} -ffile-prefix-map={target}={source}".strip()
        environment = {**os.environ, "PWD": str(target), "KCFLAGS": flags}
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=target,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        said = _first_error(done.stdout.replace(str(target), str(source)).rstrip().splitlines())
        raise GuestError(f"{source} does not build:\n{said}", f"make it build: {shlex.join(command)}", USAGE)
    _refuse_none_built(source, target)


def _first_error(lines: Sequence[str]) -> str:
    """Return what the compiler said of its first error, else the last of what make said."""
    begin = next((number for number, line in enumerate(lines) if "error:" in line), len(lines) - SHOWN_LINES)
    return "\n".join(lines[max(0, begin) :][:SHOWN_LINES])


def _refuse_none_built(source: Path, target: Path) -> None:
    """Raise `GuestError` if no module was built; remove what is left of those that no longer are."""
    order = target / "modules.order"
    built = {Path(line).stem for line in order.read_text().splitlines()} if order.is_file() else set()
    if not built:
        raise GuestError(
            f"{source}: make built no module",
            "its Makefile must say obj-m := NAME.o; where it says obj-$(CONFIG_NAME): CONFIG_NAME=m tools/guest …",
            USAGE,
        )
    for path in target.rglob("*.ko"):
        if path.stem not in built:
            path.unlink()


def kbuild_variables(tree: Path) -> list[str]:
    """Return what make must be told for a tree: the machine it is for, and the compiler that built it."""
    config = config_of(tree)
    architecture = config.architecture
    machine = list(architecture.make) if architecture else []
    if config.value("CC_IS_CLANG") == "y":
        return [*machine, f"LLVM={os.environ.get('LLVM', '1')}"]
    name = config.value("CC_VERSION_TEXT").strip('"').split(" ")[0]
    return [*machine, f"CC={name}"] if _VERSIONED.fullmatch(name) and shutil.which(name) else machine


def _copy(source: Path, target: Path) -> None:
    """Make a copy the same as the source, but for what kbuild makes.

    By content, and with the time of copying: make must see a change also where a file is older than the one before.
    """
    taken = [f"--include=/{path.relative_to(source)}" for path in _objects_of_others(source)]
    kept = [f"--exclude={pattern}" for pattern in (*MADE, ".git")]
    command = ["rsync", "-rlp", "--copy-unsafe-links", "--checksum", "--delete", *taken, *kept]
    command += [f"{source}/", f"{target}/"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GuestError(f"{source} cannot be copied: {done.stderr.strip()}", f"see {target}")


def _objects_of_others(source: Path) -> list[Path]:
    """Return objects that belong to the source: what kbuild has made has its command beside it."""
    objects = [path for pattern in OBJECTS for path in sorted(source.rglob(pattern))]
    commands = [path.with_name(f".{path.name}.cmd") for path in objects]
    made = [command.is_file() and command.stat().st_size > 0 for command in commands]
    return [path for path, is_made in zip(objects, made, strict=True) if not is_made]
