# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said at the start: that it takes a while; what can't be seen on this kernel, for verdicts, or for filters."""

from __future__ import annotations

from kleaktrace.core.events.coverage import kinds_missed
from kleaktrace.edge.tracing.absent_names import absent_names
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.session.session import Session
from kleaktrace.views.terminal import console


def say_compiling() -> None:
    """Where nothing is kept of an earlier start: on a slow machine it takes a minute."""
    console.say("compiling the BPF programs for this kernel and these options, once")


def say_unseen(session: Session) -> None:
    """One line to stderr; nothing where all kinds of events are seen. The report has a line for each."""
    unseen = kinds_missed(session.coverage)
    if unseen:
        meaning = "verdicts that hang on these stay undecided (kleaktrace doctor)"
        console.say(f"not seen on this kernel: {', '.join(unseen)}: {meaning}")


def say_absent(filters: Filters) -> None:
    """A line to stderr for each filter that names what the kernel does not have at the moment."""
    for absent in absent_names(filters):
        console.say(absent)
