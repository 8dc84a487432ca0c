# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the files that have debug information of a kernel and its modules, and refuses those of another build."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kleaktrace.core.source_lines.source_lines import KERNEL
from kleaktrace.edge.debug_info.elf_file import ElfFile

SYSTEM = Path("/usr/lib/debug")
INSTALLED = Path("/lib/modules")
GUESTS = Path("/var/cache/kleaktrace")
"""Where tools/guest keeps the trees of its kernels."""

MACHINES = {"x86_64": 62, "aarch64": 183}
"""What ELF calls the machines that uname tells of."""

_MOST_FILES = 1 << 20
_MODULE_FILE = re.compile(r"(?P<name>.+)\.ko(?P<packed>\.(?:xz|zst|gz))?(?:\.debug)?")
_PACKED = (".xz", ".zst", ".gz")
_RELEASE = re.compile(r"[\w+~-][\w.+~-]{,64}")
_BUILD_ID = re.compile(r"[0-9a-f]{8,128}")
_DEBIAN = re.compile(r"\d+\.\d+(\.\d+)?[^/\s]*-(amd64|arm64|\w+-amd64|\w+-arm64)")
_SHOWN = 12
"""Digits of a build id in a sentence."""

_TOLD = 2
"""Files that were refused, in a sentence."""


class NotFound(Exception):
    """There is no such file. `why`: what was looked at and refused; `fix`: what to do."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


class DebugFiles:
    """Those of one kernel, below `directories` first, then where distributions install them.

    in_guests: whether to look into the trees of tools/guest, too.
    """

    def __init__(
        self,
        release: str,
        arch: str,
        build_ids: Mapping[str, str],
        directories: Sequence[Path] = (),
        *,
        in_guests: bool = True,
    ) -> None:
        self._release = release if _RELEASE.fullmatch(release) else ""
        self._build_ids = {name: one for name, one in build_ids.items() if _BUILD_ID.fullmatch(one)}
        self._machine = MACHINES.get(arch, 0)
        self._directories = directories
        self._in_guests = in_guests
        self._modules: dict[Path, dict[str, list[Path]]] = {}

    def is_same_build(self, module: str, elf: ElfFile) -> bool:
        """Whether the build ids say that it is the very file; they may not be known."""
        return bool(elf.build_id) and elf.build_id == self._build_ids.get(module)

    def find(self, module: str) -> ElfFile:
        """The file of a module, or of the kernel itself. Raises `NotFound`."""
        refused = []
        for path in self._candidates(module):
            try:
                if not path.is_file():
                    continue
                elf = None if path.suffix in _PACKED else ElfFile(path)
                why = self._refusal(module, elf) if elf else "is compressed"
            except (OSError, ValueError) as error:
                why = f"can't be read: {getattr(error, 'strerror', None) or error}"
            else:
                if elf and not why:
                    return elf
            refused.append((path, why))
        told = dict.fromkeys(f"{path} {why}" for path, why in refused[:_TOLD])
        in_tree = any(path.is_relative_to(INSTALLED / self._release / "kernel") for path, _ in refused)
        raise NotFound("; ".join(told), self._fix(module, in_tree or module == KERNEL))

    def _refusal(self, module: str, elf: ElfFile) -> str:
        build_id = self._build_ids.get(module, "")
        if self._machine and elf.machine != self._machine:
            return "is for another architecture"
        if build_id and elf.build_id and elf.build_id != build_id:
            return f"is of another build ({elf.build_id[:_SHOWN]}…, and not {build_id[:_SHOWN]}…)"
        return "" if elf.has_source_lines else "has no debug information"

    def _fix(self, module: str, packaged: bool) -> str:
        file = f"{module}.ko" if module else "vmlinux"
        fix = f"give the directory of a {file} built with CONFIG_DEBUG_INFO: --debug-dir DIR"
        if packaged and _DEBIAN.fullmatch(self._release):
            return f"apt install linux-image-{self._release}-dbg, or {fix}"
        return fix

    def _candidates(self, module: str) -> Iterator[Path]:
        for directory in (*self._directories, SYSTEM):
            yield from self._below(directory, module)
        if self._release:
            installed = INSTALLED / self._release
            if module == KERNEL:
                yield from (installed / "build" / "vmlinux", installed / "vmlinux")
            else:
                yield from self._modules_below(installed).get(module, ())
        for tree in self._guests():
            yield from [tree / "vmlinux"] if module == KERNEL else self._modules_below(tree).get(module, ())

    def _below(self, directory: Path, module: str) -> Iterator[Path]:
        build_id = self._build_ids.get(module, "")
        inner = directory / "usr/lib/debug"
        if build_id:
            by_id = Path(".build-id", build_id[:2], f"{build_id[2:]}.debug")
            yield from (directory / by_id, inner / by_id)
        if module != KERNEL:
            # All of what a distribution has is below its release: nothing there is for another one.
            whole = directory != SYSTEM
            below = directory if whole else directory / "lib/modules" / self._release
            yield from self._modules_below(below).get(module, ()) if whole or self._release else ()
            return
        if self._release:
            for each in (directory, inner):
                yield each / f"vmlinux-{self._release}"
                yield each / "boot" / f"vmlinux-{self._release}"
                yield each / "lib/modules" / self._release / "vmlinux"
        yield directory / "vmlinux"

    def _guests(self) -> Iterator[Path]:
        """The tree in which a guest's kernel was built: many have the same release, only the build id can tell."""
        known = self._in_guests and KERNEL in self._build_ids
        for vmlinux in sorted(GUESTS.glob("guest-*/linux/vmlinux")) if known else ():
            with suppress(OSError, ValueError):
                if self.is_same_build(KERNEL, ElfFile(vmlinux)):
                    yield vmlinux.parent

    def _modules_below(self, directory: Path) -> Mapping[str, list[Path]]:
        """Files of modules below a directory, by the module's name. Links to directories are not followed."""
        if directory not in self._modules:
            found: dict[str, list[Path]] = {}
            seen = 0
            for at, directories, files in os.walk(directory):
                directories[:] = sorted(name for name in directories if not name.startswith("."))
                for name in sorted(files):
                    if match := _MODULE_FILE.fullmatch(name):
                        found.setdefault(match["name"].replace("-", "_"), []).append(Path(at, name))
                seen += len(files)
                if seen > _MOST_FILES:
                    break
            self._modules[directory] = found
        return self._modules[directory]
