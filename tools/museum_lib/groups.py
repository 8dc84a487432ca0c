# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pieces can be watched together: those that neither load each other's edited modules nor leak from one place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from museum_lib.piece import Piece

SIZE = 12
"""Pieces watched in one trace at most: each trace costs a start and four scans."""

_LOADS = re.compile(r"^\s*load ([\w-]+)", re.MULTILINE)


def loads(trigger: str) -> list[str]:
    """The names of the modules that a trigger asks for, as it writes them."""
    return list(dict.fromkeys(_LOADS.findall(trigger)))


def in_order(module: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
    """A module, after all those it needs, directly or not; `needs` has what each needs directly."""
    found: dict[str, None] = {}
    for needed in needs.get(module, ()):
        found |= dict.fromkeys(in_order(needed, needs))
    return [*found, module]


@dataclass(frozen=True, slots=True)
class _Use:
    """The modules that a piece loads in all, those of them that are edited, and the function that leaks."""

    loaded: frozenset[str]
    edited: frozenset[str]
    function: str

    def collides(self, other: _Use) -> bool:
        return self.function == other.function or bool(self.loaded & other.edited or self.edited & other.loaded)


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
        found[kernel_name(module)] = frozenset(kernel_name(path) for path in needed.split())
    return found


def edited(piece: Piece) -> frozenset[str]:
    """The names of the modules that its edits may change."""
    changed = {edit.file.rpartition("/")[0] for edit in piece.edits}
    return frozenset(kernel_name(module.path) for module in piece.modules if module.directory in changed)


def _use(piece: Piece, dependencies: Mapping[str, frozenset[str]]) -> _Use:
    asked = {kernel_name(name) for name in loads(piece.trigger)} | edited(piece)
    loaded = asked.union(*(dependencies.get(name, frozenset()) for name in asked))
    return _Use(frozenset(loaded), edited(piece), piece.truth.function)


def kernel_name(path: str) -> str:
    """The name that the kernel gives the module of a file."""
    return path.strip().rpartition("/")[2].removesuffix(".ko").replace("-", "_")
