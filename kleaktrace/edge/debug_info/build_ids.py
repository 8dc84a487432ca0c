# SPDX-License-Identifier: GPL-2.0-or-later
"""Build ids of the running kernel and of its modules: which build of its files a machine runs."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from kleaktrace.core.source_lines.source_lines import KERNEL
from kleaktrace.edge.debug_info.elf_file import ElfFile
from kleaktrace.edge.debug_info.elf_notes import build_id_in

KERNEL_NOTES = Path("/sys/kernel/notes")
MODULES = Path("/sys/module")

_MOST_NOTES = 1 << 16
_STOP_S = 2.0


def kernel_build_id() -> str:
    """Of the running kernel; empty: not known."""
    return _read(KERNEL_NOTES)


def module_build_id(name: str) -> str:
    """Of a module as it is loaded now; empty: it is not loaded, or has none."""
    return _read(MODULES / name / "notes" / ".note.gnu.build-id") if _is_name(name) else ""


def loaded_build_ids() -> dict[str, str]:
    """Of the kernel and all modules that are loaded now, as far as they are known, by module."""
    names = (entry.name for entry in MODULES.iterdir()) if MODULES.is_dir() else ()
    found = {KERNEL: kernel_build_id(), **{name: module_build_id(name) for name in names}}
    return {name: build_id for name, build_id in found.items() if build_id}


class BuildIdReader:
    """Reads build ids on a thread of its own, so that who sees a module come need not wait for files.

    `found` is filled as they come. What is loaded again may be another build: the last one holds.
    """

    def __init__(self, found: MutableMapping[str, str]) -> None:
        self._found = found
        self._names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="build-ids", daemon=True)
        self._thread.start()

    def module_loaded(self, name: str) -> None:
        """A module has come, and may soon be gone again."""
        self._names.put(name)

    def stop(self) -> None:
        """Return when all is read. May be called twice."""
        self._names.put(None)
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        self._found.update(loaded_build_ids())
        while (name := self._names.get()) is not None:
            build_id = module_build_id(name) or _installed_build_id(name)
            if build_id:
                self._found[name] = build_id


def _installed_build_id(name: str) -> str:
    """Of the file that modprobe would load; empty: it can't be told, or is compressed."""
    with suppress(OSError, ValueError):
        directory = Path("/lib/modules") / os.uname().release
        for line in (directory / "modules.dep").read_text(errors="replace").splitlines():
            path = line.partition(":")[0]
            if Path(path).name.replace("-", "_") == f"{name}.ko":
                return ElfFile(directory / path).build_id
    return ""


def _is_name(name: str) -> bool:
    return bool(name) and "/" not in name and name not in (".", "..")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return build_id_in(file.read(_MOST_NOTES))
    except OSError:
        return ""
