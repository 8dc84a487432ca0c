# SPDX-License-Identifier: GPL-2.0-or-later
"""Who imports what, in a tree of Python modules: however it is written, and wherever in a file."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

LAYERS_OF_ROOMS = ("core", "edge", "views")


@dataclass(frozen=True)
class Package:
    """A package by its directory, which has its name. Modules go by their names within it; "" is the package itself."""

    directory: Path

    def modules(self) -> list[tuple[str, Path]]:
        """All modules, with their files."""
        found = sorted(self.directory.rglob("*.py"))
        return [(".".join(path.relative_to(self.directory).with_suffix("").parts), path) for path in found]

    def own_imports(self, path: Path) -> Iterator[str]:
        """The modules of the package that a file imports."""
        for module, name in _imported(path):
            ours = self._within(path, module)
            if ours is None:
                continue
            named = f"{ours}.{name}".strip(".")
            yield named if name and self._is_module(named) else ours

    def foreign_imports(self, path: Path) -> Iterator[str]:
        """The packages that a file imports from elsewhere."""
        for module, _ in _imported(path):
            if self._within(path, module) is None:
                yield module.partition(".")[0]

    def _within(self, path: Path, module: str) -> str | None:
        """What an import is called within the package; None: it comes from elsewhere."""
        level = len(module) - len(module.lstrip("."))
        if level:
            own = path.relative_to(self.directory).parent.parts
            return ".".join([*own[: len(own) - level + 1], *filter(None, [module[level:]])])
        package, _, rest = module.partition(".")
        return rest if package == self.directory.name else None

    def _is_module(self, name: str) -> bool:
        place = self.directory.joinpath(*name.split("."))
        return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of `from module import name`, (module, "") of `import module`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{'.' * node.level}{node.module or ''}", alias.name) for alias in node.names)


def room(module: str) -> str:
    """The package that a module of core, edge or views lies in, by subject; else the module, or its layer."""
    layer, *inner = module.split(".")
    return ".".join([layer, *inner[:1]]) if layer in LAYERS_OF_ROOMS else layer


def wrong_layers(package: Package, may_import: Mapping[str, set[str]]) -> list[str]:
    """Modules that import a layer that theirs may not import."""
    return [
        f"{module} imports {imported}"
        for module, path in package.modules()
        if (layer := module.split(".")[0]) in may_import
        for imported in package.own_imports(path)
        if imported and imported.split(".")[0] not in may_import[layer]
    ]


def wrong_packages(package: Package, layer: str, allowed: set[str]) -> list[str]:
    """Modules of a layer that import a package from elsewhere that is not allowed to it."""
    return [
        f"{module} imports {imported}"
        for module, path in package.modules()
        if module.split(".")[0] == layer
        for imported in package.foreign_imports(path)
        if imported not in allowed
    ]


def calls(package: Package, layer: str, functions: set[str]) -> list[str]:
    """Modules of a layer that call one of these functions of Python's own."""
    return [
        f"{module} calls {node.func.id}"
        for module, path in package.modules()
        if module.split(".")[0] == layer
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions
    ]


def circle(package: Package) -> list[str]:
    """Rooms that import each other in a circle, or nothing."""
    graph: dict[str, set[str]] = {}
    for module, path in package.modules():
        if not module.endswith("__init__"):
            own = room(module)
            others = {room(other) for other in package.own_imports(path) if other}
            graph.setdefault(own, set()).update(others - {own})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
