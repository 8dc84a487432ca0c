# SPDX-License-Identifier: GPL-2.0-or-later
"""The questions of docs/queries.md, and two captures to ask: one with everything in it, and one that lost events."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import exported
from builders import Scene, suspect

from kleaktrace.core.recording import Recording
from kleaktrace.core.tables.recording_tables import recording_tables
from kleaktrace.edge.database.duckdb_tables import Source

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queries.md"
QUESTIONS = dict(re.findall(r"^### ([^\n]+)\n+```sql\n(.*?)```", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def lossy() -> Recording:
    """The free of a suspect may be among what was lost."""
    scene = Scene()
    scene.allocate(1, exported.A, stack=2, comm=b"other", tgid=7)
    scene.lose(1.5, 2)
    listed = [suspect(1, exported.A, comm="other", pid=7)]
    return exported.recording(scene, readings=[[], listed, listed])


CAPTURES: dict[str, Callable[[], Recording]] = {"all.cap": exported.everything, "lossy.cap": lossy}


def sources() -> list[Source]:
    """The tables of both."""
    made = ((name, make()) for name, make in CAPTURES.items())
    return [Source(name, one.kernel.host, recording_tables(one, one.report(one.judge()))) for name, one in made]
