# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may import whom: core computes, the edge touches the kernel, views print, and nothing goes in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "kleaktrace"
SHARED = {"errors", "terminal"}

MAY_IMPORT = {
    "core": {"core"},
    "edge": {"edge", "core"},
    "session": {"session", "core", "edge"},
    "views": {"views", "core"},
    "commands": {"commands", "session", "views", "edge", "core"},
}
"""By layer, besides what all share."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, without the name of the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "kleaktrace":
            module = node.module.partition(".")[2]
            for alias in node.names:
                submodule = f"{module}.{alias.name}".lstrip(".")
                yield submodule if (PACKAGE / (submodule.replace(".", "/") + ".py")).exists() else module


def room(module: str) -> str:
    """The package that a module of core, edge or views lies in, by subject; else the module, or its layer."""
    layer, *inner = module.split(".")
    if layer in ("core", "edge", "views"):
        return ".".join([layer, *inner[:1]])
    return layer


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_a_layer_imports_only_those_below(layer: str) -> None:
    allowed = MAY_IMPORT[layer] | SHARED
    found = [
        f"{module} imports {imported}"
        for module, path in modules()
        if module.split(".")[0] == layer
        for imported in imports(path)
        if imported and imported.split(".")[0] not in allowed
    ]
    assert found == []


def test_rooms_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, path in modules():
        if not module.endswith("__init__"):
            own = room(module)
            graph.setdefault(own, set()).update(room(other) for other in imports(path) if other and room(other) != own)
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_every_room_says_what_it_is_for() -> None:
    assert [
        name
        for name, path in modules()
        if name.endswith("__init__") and not ast.get_docstring(ast.parse(path.read_text()))
    ] == []
