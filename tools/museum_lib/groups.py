"""Which pieces can be watched together: those that don't load each other's edited modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from museum_lib.piece import Piece

SIZE = 8
"""Pieces watched in one trace at most: each trace costs a start and four scans."""

_LOADS = re.compile(r"^\s*load ([\w-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Use:
    """The modules that a piece loads in all, and those of them that are edited."""

    loaded: frozenset[str]
    edited: frozenset[str]

    def collides(self, other: _Use) -> bool:
        return bool(self.loaded & other.edited or self.edited & other.loaded)


def grouped(pieces: Iterable[Piece], dependencies: Mapping[str, frozenset[str]]) -> list[list[Piece]]:
    """Put pieces into groups of `SIZE` at most, each into the first where it collides with none.

    `dependencies` gives for a module's name all those it loads with it (modules.dep).
    """
    groups: list[list[tuple[Piece, _Use]]] = []
    for piece in pieces:
        use = _use(piece, dependencies)
        fits = (group for group in groups if len(group) < SIZE and not any(use.collides(other) for _, other in group))
        group = next(fits, None)
        if group is None:
            groups.append(group := [])
        group.append((piece, use))
    return [[piece for piece, _ in group] for group in groups]


def dependencies(lines: Sequence[str]) -> dict[str, frozenset[str]]:
    """Read modules.dep: `net/llc/llc2.ko: net/llc/llc.ko`; modules by the name that the kernel gives them."""
    found = {}
    for line in lines:
        module, _, needed = line.partition(":")
        found[_name(module)] = frozenset(_name(path) for path in needed.split())
    return found


def _use(piece: Piece, dependencies: Mapping[str, frozenset[str]]) -> _Use:
    changed = {edit.file.rpartition("/")[0] for edit in piece.edits}
    edited = {_name(module.path) for module in piece.modules if module.directory in changed}
    asked = {_name(name) for name in _LOADS.findall(piece.trigger)} | edited
    return _Use(frozenset(asked.union(*(dependencies.get(name, frozenset()) for name in asked))), frozenset(edited))


def _name(path: str) -> str:
    return path.strip().rpartition("/")[2].removesuffix(".ko").replace("-", "_")
