# SPDX-License-Identifier: GPL-2.0-or-later
"""Each file that can have a comment says its licence, and it is the one that LICENSE says."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]

WITHOUT_COMMENTS = {".1", ".capture", ".json", ".md", ".patch", ".txt", ".typed"}
"""Or part of the manual, or what somebody else printed."""
WITHOUT_LINE = {"LICENSE"}
MADE = {".git", ".venv", "build", "dist", "node_modules"}
"""Directories that are no part of the project; those in which Python and its tools keep things begin with . or _."""
NEAR_THE_TOP = 3
"""Lines; scripts begin with an interpreter."""

_LINE = re.compile(r"SPDX-License-Identifier: (\S+)")


@cache
def files() -> tuple[Path, ...]:
    """What is in git, or in the tree where there is no git."""
    if shutil.which("git") and (PROJECT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return tuple(path for name in listed.stdout.split("\0") if name and (path := Path(name)) and is_file(path))
    return walked()


def walked() -> tuple[Path, ...]:
    found = (path.relative_to(PROJECT) for path in sorted(PROJECT.rglob("*")))
    return tuple(path for path in found if is_file(path) and not any(is_made(part) for part in path.parts[:-1]))


def is_file(path: Path) -> bool:
    return (PROJECT / path).is_file()


def is_made(directory: str) -> bool:
    return directory in MADE or directory.startswith("__") or (directory.startswith(".") and directory != ".github")


def compiled_for_the_kernel() -> list[str]:
    """The directories that LICENSE names for it, but the museum, of which only the edits are."""
    text = " ".join((PROJECT / "LICENSE").read_text().split())
    named = re.search(r"What is compiled for the kernel \((.*?)\)", text)
    assert named
    return [name for name in re.findall(r"[\w/-]+/", named[1]) if name != "tests/museum/"]


def licence(path: Path) -> str:
    head = (PROJECT / path).read_text(errors="replace").splitlines()[:NEAR_THE_TOP]
    found = _LINE.search("\n".join(head))
    return found[1] if found else "none"


def expected(path: Path) -> set[str]:
    """What a file may be licensed under; of scripts beside a module, either."""
    is_script = path.suffix == ".sh"
    if any(str(path).startswith(directory) for directory in compiled_for_the_kernel()):
        return {"GPL-2.0-only"} | ({"GPL-2.0-or-later"} if is_script else set())
    return {"GPL-2.0-only" if path.parent == Path("tests/museum") and not is_script else "GPL-2.0-or-later"}


def test_each_file_says_its_licence() -> None:
    wrong = [
        f"{path}: {licence(path)}"
        for path in files()
        if path.suffix not in WITHOUT_COMMENTS and path.name not in WITHOUT_LINE and licence(path) not in expected(path)
    ]
    assert wrong == []


def test_what_is_compiled_for_the_kernel_is_named_in_the_licence() -> None:
    """A directory whose Makefile builds a module."""
    builds = {f"{path.parent}/" for path in files() if path.name == "Makefile"}
    assert builds <= set(compiled_for_the_kernel())
    assert all((PROJECT / directory).is_dir() for directory in compiled_for_the_kernel())


def test_without_git_the_same_files_are_found() -> None:
    known = set(walked())
    assert {path for path in files() if not str(path).startswith(".ci/")} <= known
