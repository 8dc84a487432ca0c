# SPDX-License-Identifier: GPL-2.0-or-later
"""Says at the start what can't be seen on this kernel, and what that means for the verdicts."""

from __future__ import annotations

from kleaktrace.core.events.coverage import kinds_missed
from kleaktrace.session.session import Session
from kleaktrace.views.terminal import console


def say_unseen(session: Session) -> None:
    """One line to stderr; nothing where all kinds of events are seen. The report has a line for each."""
    unseen = kinds_missed(session.coverage)
    if unseen:
        console.make(stderr=True).print(
            f"kleaktrace: not seen on this kernel: {', '.join(unseen)}: verdicts that hang on these stay undecided "
            "(kleaktrace doctor)"
        )
