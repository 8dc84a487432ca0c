# SPDX-License-Identifier: GPL-2.0-or-later
"""A piece of the museum, and how it is written down.

A piece is a TOML file of tests/museum:

    subsystem = "nfc"
    kind = "plain"                  # one of KINDS
    fix.subject = "nfc: nci: …"     # the upstream fix that the edits undo
    fix.commit = "e0652f8bb44d"     # its hash; "" where it could not be established
    note = "…"                      # what else must be said, if anything
    trigger = '''…'''               # shell, one round: load, use, unload; see tests/museum/functions.sh
    truth.function = "nci_…"        # who allocates what leaks
    truth.objects = 1               # how many a round
    [[module]]                      # each that is to be built anew
    path = "net/nfc/nci/nci"        # where the kernel's tree has it, without .ko
    config = ["CONFIG_NFC_NCI"]     # settings it needs, =m unless a value is given
    [[edit]]                        # see `edit.Edit`
    file = "net/nfc/nci/core.c"
    function = "nci_free_device"
    old = '''…'''
    new = '''…'''
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from museum_lib.edit import Edit

KINDS = ("plain", "error-path", "overwritten", "refcount", "referenced")
"""How memory leaks: it is never freed; only when something fails; its pointer is overwritten; a reference to it is
never dropped; or something still points to it, and kmemleak cannot see it."""

_FIELDS = {"subsystem", "kind", "fix", "trigger", "truth", "module", "edit"}
_OPTIONAL = {"note", "standard"}


class BadPiece(Exception):
    """A file of the museum that cannot be read as a piece; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Fix:
    """The upstream commit that a piece undoes; `commit` is empty where its hash could not be established."""

    subject: str
    commit: str


@dataclass(frozen=True, slots=True)
class Module:
    """A kernel module to build: its path in the kernel's tree, without .ko, and settings for that: `CONFIG_X` means =m,
    and `CONFIG_X=value` is another one than the kernel has."""

    path: str
    config: tuple[str, ...]

    @property
    def directory(self) -> str:
        """Where its source lies."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The file's name, without .ko."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Truth:
    """Which function allocates what leaks, and how many objects a round of the trigger loses by it."""

    function: str
    objects: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One leak; `standard` if its modules build for the guest kernel without tools/wide.config as well."""

    name: str
    subsystem: str
    kind: str
    fix: Fix
    note: str
    standard: bool
    modules: tuple[Module, ...]
    edits: tuple[Edit, ...]
    trigger: str
    truth: Truth


def parse(name: str, text: str) -> Piece:
    """Read a piece from TOML; raises BadPiece."""
    try:
        return _piece(name, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadPiece(f"{name}.toml: {type(error).__name__}: {error}") from error


def _piece(name: str, fields: Mapping[str, Any]) -> Piece:
    unknown, missing = set(fields) - _FIELDS - _OPTIONAL, _FIELDS - set(fields)
    if unknown or missing:
        raise ValueError(f"unknown fields {sorted(unknown)}, missing {sorted(missing)}")
    if fields["kind"] not in KINDS:
        raise ValueError(f"kind {fields['kind']!r} is none of {', '.join(KINDS)}")
    if not fields["edit"] or not fields["module"] or fields["truth"]["objects"] < 1:
        raise ValueError("needs an edit, a module, and an object that leaks")
    return Piece(
        name=name,
        subsystem=fields["subsystem"],
        kind=fields["kind"],
        fix=Fix(**fields["fix"]),
        note=fields.get("note", ""),
        standard=fields.get("standard", False),
        modules=tuple(Module(each["path"], tuple(each["config"])) for each in fields["module"]),
        edits=tuple(Edit(**each) for each in fields["edit"]),
        trigger=fields["trigger"],
        truth=Truth(**fields["truth"]),
    )


def read_all(directory: Path) -> list[Piece]:
    """All pieces of a directory, by name; raises BadPiece."""
    return [parse(path.stem, path.read_text()) for path in sorted(directory.glob("*.toml"))]


def chosen(pieces: Iterable[Piece], names: Iterable[str]) -> list[Piece]:
    """Those of the pieces that are named, in the order of the names; all if none is. KeyError if there is none such."""
    by_name = {piece.name: piece for piece in pieces}
    return [by_name[name] for name in names] or list(by_name.values())
