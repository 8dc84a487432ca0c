# SPDX-License-Identifier: GPL-2.0-or-later
"""Edits of kernel source, and how they are applied to a text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_DEFINITION_ENDS = "}"


class EditFailed(Exception):
    """An edit that does not fit its text: where (`file:line`), and why."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A change within one definition of a C source: `old`, which must be there exactly once, becomes `new`.

    `file` is relative to the kernel's tree; `function` may also name a structure that is initialised at file level.
    """

    file: str
    function: str
    old: str
    new: str


def apply(text: str, edit: Edit) -> str:
    """The text of a source after an edit; raises EditFailed."""
    begin, end = _definition(text, edit)
    body = text[begin:end]
    found = body.count(edit.old) if edit.old else 0
    where = f"{edit.file}:{_line(text, begin)}: {edit.function}"
    if found != 1:
        first = edit.old.strip().partition("\n")[0]
        raise EditFailed(f"{where}: {'not found' if not found else f'found {found} times'}: {first}")
    if edit.new == edit.old:
        raise EditFailed(f"{where}: changes nothing")
    return text[:begin] + body.replace(edit.old, edit.new) + text[end:]


def apply_all(text: str, edits: Iterable[Edit]) -> str:
    """The text of a source after several edits, one after the other; raises EditFailed."""
    for edit in edits:
        text = apply(text, edit)
    return text


def _definition(text: str, edit: Edit) -> tuple[int, int]:
    """Where a definition begins and ends: from a line that has its name and is not indented to the next that is `}`."""
    name = re.compile(rf"^\w[^\n]*\b{re.escape(edit.function)}\b", re.MULTILINE)
    for match in name.finditer(text):
        begin, at = match.start(), match.start()
        while at < len(text):
            after = text.find("\n", at) + 1 or len(text)
            line = text[at:after].rstrip()
            if line.startswith(_DEFINITION_ENDS):
                return begin, after
            if line.endswith(";") and not line.startswith((" ", "\t")):
                break  # a declaration
            if "\t" not in text[begin:after] and line == "":
                break
            at = after
    raise EditFailed(f"{edit.file}:1: no definition of {edit.function}")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
