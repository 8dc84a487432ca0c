# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether `trace` can have its interactive screen here, and the screen."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kleaktrace.core.grouping.group_labels import GroupBy

if TYPE_CHECKING:
    from kleaktrace.views.screen.feed import Feed

_NO_BLOCKS = ("linux", "vt", "ansi", "dumb")
"""Kinds of terminals (TERM begins with) whose fonts have no small bars: consoles, serial lines."""


def no_screen() -> str | None:
    """Why there can be no screen with keys here; None: there can."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return "standard input and standard error are not both a terminal"
    if os.environ.get("TERM", "dumb") == "dumb":
        return "this terminal can't move its cursor (TERM)"
    if importlib.util.find_spec("textual") is None:
        return "textual is not installed (pip install textual)"
    return None


def show_trace_screen(feed: Feed, by: GroupBy, older_s: float, unreclaimable: bool, ended: Callable[[], bool]) -> None:
    """Show it until the reader ends it, or `ended`. Raises what the feed does."""
    from kleaktrace.views.screen.bars import ASCII, BLOCKS
    from kleaktrace.views.screen.trace_screen import Options, show_screen

    unicode = "utf" in (sys.stderr.encoding or "").lower() and not os.environ.get("TERM", "").startswith(_NO_BLOCKS)
    show_screen(feed, Options(by, older_s, unreclaimable, BLOCKS if unicode else ASCII, ended))
