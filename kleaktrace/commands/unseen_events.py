# SPDX-License-Identifier: GPL-2.0-or-later
"""Says at the start what can't be seen on this kernel, and what that means for the verdicts."""

from __future__ import annotations

from kleaktrace.session.session import Session
from kleaktrace.views.terminal import console


def say_unseen(session: Session) -> None:
    """One line for each kind of event without a source, to stderr; nothing where all are seen."""
    screen = console.make(stderr=True)
    for coverage in session.coverage:
        if coverage.source is None:
            screen.print(f"kleaktrace: not seen on this kernel: {coverage.kind}: {coverage.note}", markup=False)
