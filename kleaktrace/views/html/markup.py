# SPDX-License-Identifier: GPL-2.0-or-later
"""HTML that is safe by construction: whatever is not `Html` already is cleaned and escaped."""

from __future__ import annotations

from html import escape

from kleaktrace.terminal import clean


class Html(str):
    """Text that is HTML."""

    __slots__ = ()


NOTHING = Html()


def text(words: str) -> Html:
    """Any words as HTML: no tags, no quotes, nothing that turns the direction of reading."""
    return Html(escape(clean(words), quote=True))


def element(name: str, *children: str, **attributes: str | int | bool) -> Html:
    """An element; a trailing `_` of an attribute's name is dropped, `_` within is `-`, and False leaves it out."""
    inside = "".join(child if isinstance(child, Html) else text(child) for child in children)
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not False
    )
    return Html(f"<{name}{given}>{inside}</{name}>")


def joined(parts: list[Html]) -> Html:
    """One after the other."""
    return Html("".join(parts))
