# SPDX-License-Identifier: GPL-2.0-or-later
"""Every file and name of ours that a docstring, a comment or a page of the manual mentions is there."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import mentions
import pytest

PROJECT = Path(__file__).resolve().parents[3]
PACKAGE = PROJECT / "kleaktrace"
FOLDERS = ("kleaktrace", "bpf", "tests", "tools", "docs")
BASES = (PROJECT, PACKAGE, PROJECT / "tests", PROJECT / "tests/unit", PROJECT / "tools")
OUR_C = ("bpf/", "tests/", "docs/", "kleaktrace/")

OF_OTHERS = {"kunit.py", "scripts/decode_stacktrace.sh"}
"""Files of the kernel's that nothing else tells from ours."""
MADE = {"capture.json", "trace.json", "build/bench.json"}
"""Files that there are only later, or inside of others."""
FOLDERS_OF_OTHERS = ("arch/", "drivers/", "fs/", "include/", "init/", "kernel/", "lib/", "mm/", "net/", "llvm/")
"""The kernel's, and LLVM's."""
CLASSES_OF_OTHERS = {"Program"}
"""drgn's."""


def files() -> Iterator[Path]:
    yield from sorted(PROJECT.glob("*.md"))
    for folder in FOLDERS:
        yield from (path for path in sorted((PROJECT / folder).rglob("*")) if path.suffix in (".py", ".md", ".c", ".h"))


@cache
def all_texts() -> tuple[tuple[Path, str], ...]:
    return tuple((path.relative_to(PROJECT), text) for path in files() for text in mentions.texts(path))


def package_texts() -> list[tuple[Path, str]]:
    return [(where, text) for where, text in all_texts() if where.parts[0] == "kleaktrace"]


@cache
def our_names() -> frozenset[str]:
    """Of all files."""
    return frozenset(path.name for folder in FOLDERS for path in (PROJECT / folder).rglob("*"))


def is_there(path: str, beside: Path) -> bool:
    bases = (*BASES, (PROJECT / beside).parent)
    return any((base / path).exists() for base in bases) or ("/" not in path and path in our_names())


def is_file(name: str, beside: Path) -> bool:
    return name in MADE or is_there(name, beside)


def is_ours(path: str) -> bool:
    """Whether it can only be ours. The kernel has C files everywhere; words in capitals stand for something."""
    is_c = path.endswith((".c", ".h", ".cpp"))
    stands_for = any(part.partition(".")[0].isupper() for part in path.split("/"))
    return not stands_for and path not in OF_OTHERS and (not is_c or path.startswith(OUR_C))


@cache
def modules() -> tuple[ModuleType, ...]:
    found = [path.relative_to(PROJECT).with_suffix("").parts for path in sorted(PACKAGE.rglob("*.py"))]
    names = [".".join(parts).removesuffix(".__init__") for parts in found if parts[-1] != "__main__"]
    return tuple(importlib.import_module(name) for name in names)


@cache
def owners() -> dict[str, list[object]]:
    """Modules and classes by their own names."""
    found: dict[str, list[object]] = {}
    for module in modules():
        found.setdefault(module.__name__.rpartition(".")[2], []).append(module)
        for name, one in inspect.getmembers(module, inspect.isclass):
            found.setdefault(name, []).append(one)
    return found


def has_member(owner: object, name: str) -> bool:
    return hasattr(owner, name) or name in getattr(owner, "__annotations__", {})


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one."""
    known = {module.__name__: module for module in modules()}
    first, _, rest = f"kleaktrace.{name}", "", ""
    while first not in known and "." in first:
        first, _, part = first.rpartition(".")
        rest = f"{part}.{rest}".strip(".")
    owner: object = known.get(first)
    for part in filter(None, rest.split(".")):
        if not has_member(owner, part):
            return False
        owner = getattr(owner, part, None)
    return first != "kleaktrace"


def test_files_that_are_mentioned_are_there() -> None:
    missing = [
        f"{where}: {path}"
        for where, text in all_texts()
        for path in mentions.paths(text)
        if is_ours(path) and not is_file(path, where)
    ]
    assert missing == []


def test_names_in_core_and_edge_are_there() -> None:
    missing = [f"{where}: {name}" for where, text in all_texts() for name in mentions.names(text) if not resolves(name)]
    assert missing == []


def test_names_in_a_module_or_a_class_are_there() -> None:
    missing = [
        f"{where}: {owner}.{name}"
        for where, text in package_texts()
        for owner, name in mentions.members(text)
        if owner not in CLASSES_OF_OTHERS and not is_file(f"{owner}.{name}", where)
        if not any(has_member(one, name) for one in owners().get(owner, ()))
    ]
    assert missing == []


def speaks_of_others(text: str) -> bool:
    return any(path.startswith(FOLDERS_OF_OTHERS) for path in mentions.paths(text))


def test_words_of_code_are_in_the_code() -> None:
    """Or in that of others, if the text says in which file."""
    used = {Path(name).stem for name in our_names()}
    for path in files():
        if path.suffix in (".py", ".c", ".h"):
            used |= mentions.used_words(path)
    missing = [
        f"{where}: {word}"
        for where, text in package_texts()
        if not speaks_of_others(text)
        for word in mentions.words(text)
        if word not in used
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see bpf/maps.h, and docs/x.md.", ["bpf/maps.h", "docs/x.md"]),
        ("(edge/bpf/btf.py)", ["edge/bpf/btf.py"]),
        ("/proc/x.py ~/y.py bpf/*.c {name}.py", []),
    ],
)
def test_paths_are_seen(text: str, found: list[str]) -> None:
    assert mentions.paths(text) == found


def test_what_is_not_there_is_found() -> None:
    (docstring,) = (text for text in mentions.python_texts('"""See `core.nowhere`."""\nX = "core.no"\n') if text)
    assert mentions.names(docstring) == ["core.nowhere"]
    assert not resolves("core.nowhere")
    assert not resolves("core.events.records.nothing")
    assert resolves("core.events.records.hide")
    assert resolves("core.events.records.Batch.allocations")
    assert not is_there("bpf/nothing.h", Path("bpf/maps.h"))
    comment = "\n".join(mentions.python_texts("X = 1  # one\n# in `no_such.thing`, and `NOT_THERE`\n"))
    assert (mentions.members(comment), mentions.words(comment)) == ([("no_such", "thing")], ["NOT_THERE"])
