# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may import whom: core computes, the edge touches the kernel, views print, and nothing goes in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from module_imports import Package, calls, circle, wrong_layers, wrong_packages

PACKAGE = Package(Path(__file__).resolve().parents[2] / "kleaktrace")
SHARED = {"errors", "terminal"}

MAY_IMPORT = {
    "core": {"core"} | SHARED,
    "edge": {"edge", "core"} | SHARED,
    "session": {"session", "core", "edge"} | SHARED,
    "views": {"views", "core"} | SHARED,
    "commands": {"commands", "session", "views", "edge", "core"} | SHARED,
}
"""By layer."""

CORE_MAY_IMPORT = {
    *("__future__", "typing", "dataclasses", "enum", "collections", "contextlib", "functools", "itertools"),
    *("bisect", "math", "statistics", "struct", "numpy"),
    *("re", "fnmatch", "html", "json", "hashlib", "datetime"),
    "errno",  # names of errors, which objects may hold
    "binascii",  # base64
    "posixpath",  # parts of file names; no file is looked at
    "gc",  # only when it may run
    "sys",  # the byte order
}
"""From elsewhere. No file, no clock, no process and no printing: os, time, subprocess, rich, click, bcc, ctypes."""

NOT_CALLED_BY_CORE = {"open", "print", "input"}


def test_a_layer_imports_only_those_below() -> None:
    assert wrong_layers(PACKAGE, MAY_IMPORT) == []


def test_core_imports_nothing_that_touches_the_world() -> None:
    assert wrong_packages(PACKAGE, "core", CORE_MAY_IMPORT) == []
    assert calls(PACKAGE, "core", NOT_CALLED_BY_CORE) == []


def test_rooms_import_each_other_in_no_circle() -> None:
    assert circle(PACKAGE) == []


def test_every_layer_is_there_and_every_room_says_what_it_is_for() -> None:
    found = dict(PACKAGE.modules())
    assert {f"{layer}.__init__" for layer in MAY_IMPORT} <= set(found)
    assert [
        name
        for name, path in found.items()
        if name.endswith("__init__") and not ast.get_docstring(ast.parse(path.read_text()))
    ] == []


@pytest.fixture
def small(tmp_path: Path) -> Package:
    """A tree of a core and an edge that keeps the rules."""
    package = Package(tmp_path / "kleaktrace")
    write(package, "__init__.py", "__version__ = '1'\n")
    write(package, "errors.py", "")
    for room in ("core", "core/events", "core/rates", "edge", "edge/bpf", "views"):
        write(package, f"{room}/__init__.py", "")
    write(package, "core/events/records.py", "import re\nfrom kleaktrace.errors import What\n")
    write(package, "core/rates/rates.py", "from kleaktrace.core.events.records import Rows\n")
    write(
        package, "edge/bpf/loader.py", "import os\nfrom kleaktrace import __version__\nimport kleaktrace.core.events\n"
    )
    return package


def write(package: Package, place: str, text: str) -> None:
    path = package.directory / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_tree_that_keeps_the_rules_passes(small: Package) -> None:
    assert wrong_layers(small, MAY_IMPORT) == []
    assert wrong_packages(small, "core", CORE_MAY_IMPORT) == []
    assert circle(small) == []


@pytest.mark.parametrize(
    ("line", "imported"),
    [
        ("from kleaktrace.edge.bpf import loader", "edge.bpf.loader"),
        ("from kleaktrace.edge.bpf.loader import Loader", "edge.bpf.loader"),
        ("from kleaktrace import edge", "edge"),
        ("from kleaktrace import errors, edge as e", "edge"),
        ("import kleaktrace.edge.bpf.loader", "edge.bpf.loader"),
        ("import kleaktrace.edge as e", "edge"),
        ("from ...edge.bpf import loader", "edge.bpf.loader"),
        ("from ...edge.bpf.loader import Loader", "edge.bpf.loader"),
        ("from ... import edge", "edge"),
        ("def late():\n    import kleaktrace.edge", "edge"),
    ],
)
def test_an_import_of_a_layer_above_is_found_however_it_is_written(small: Package, line: str, imported: str) -> None:
    write(small, "core/events/bad.py", line + "\n")
    assert wrong_layers(small, MAY_IMPORT) == [f"core.events.bad imports {imported}"]


def test_relative_imports_of_a_package_s_own_are_its_own(small: Package) -> None:
    write(small, "core/events/__init__.py", "from . import records\nfrom .records import Rows\nfrom .. import rates\n")
    path = small.directory / "core/events/__init__.py"
    assert list(small.own_imports(path)) == ["core.events.records", "core.events.records", "core.rates"]


@pytest.mark.parametrize("line", ["import os.path", "from time import sleep", "import subprocess as s", "import rich"])
def test_what_core_may_not_import_is_found(small: Package, line: str) -> None:
    write(small, "core/events/bad.py", line + "\n")
    assert len(wrong_packages(small, "core", CORE_MAY_IMPORT)) == 1
    assert wrong_layers(small, MAY_IMPORT) == []


def test_a_file_that_core_opens_is_found(small: Package) -> None:
    write(small, "core/events/bad.py", "def f():\n    return open('/proc/meminfo')\n")
    assert calls(small, "core", NOT_CALLED_BY_CORE) == ["core.events.bad calls open"]


def test_a_circle_is_found(small: Package) -> None:
    write(small, "core/events/late.py", "from ..rates import rates\n")
    assert set(circle(small)) == {"core.events", "core.rates"}
