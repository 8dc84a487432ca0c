# SPDX-License-Identifier: GPL-2.0-or-later
"""From a session that goes on to a recording that is judged, as `run` and `confirm` do it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from kleaktrace.core.events.clock import signed_difference
from kleaktrace.core.evidence.evidence import JudgedSuspect, Question
from kleaktrace.core.evidence.suspect_cases import same_time
from kleaktrace.core.machine.unexplained_memory import Unexplained
from kleaktrace.core.recording import Recording
from kleaktrace.edge.kmemleak.client import DumpAnswer, KmemleakClient
from kleaktrace.session.session import Session

_LOG = logging.getLogger(__name__)

_ASK_AT_MOST = 256
"""Each question about an object makes the kernel write a dozen lines to its log."""


def judged(
    session: Session,
    client: KmemleakClient | None,
    observed: Callable[[Recording], Recording],
    missing: Callable[[], Sequence[Unexplained]],
) -> tuple[Recording, list[JudgedSuspect]]:
    """Ask kmemleak what must be known, stop the session, and judge what it learned.

    observed: adds to a recording what the command saw besides the events; it is asked twice. missing: the memory that
    is gone, by the machine's counters of now.
    """
    with session.looking() as recording:
        questions, hz = observed(recording).open_questions(), recording.clock.hz
    answers = {} if client is None else answered(client, questions, hz)
    gone = missing()
    session.stop()
    recording = replace(observed(session.recording()), answers=answers, missing=gone)
    suspects = recording.judge()
    recording = recording.with_contents(session.read_contents(recording, suspects))
    return recording.with_gaps(session.overlooked(recording, suspects)), suspects


def answered(client: KmemleakClient, questions: Sequence[Question], hz: float) -> dict[Question, bool]:
    """What kmemleak says to so many of the questions as its log can bear. hz: jiffies per second."""
    asked = {question: _is_there(question, client.dump(question.address), hz) for question in questions[:_ASK_AT_MOST]}
    answers = {question: answer for question, answer in asked.items() if answer is not None}
    known = sum(answers.values())
    _LOG.info("of %d questions, kmemleak was asked %d: it has %d of the objects", len(questions), len(asked), known)
    return answers


def _is_there(question: Question, answer: DumpAnswer, hz: float) -> bool | None:
    """Whether what kmemleak has there is what was asked for, and not allocated later; None: its log did not tell."""
    if not answer.tracked:
        return False
    if answer.dump is None:
        return None
    return same_time(signed_difference(question.jiffies, answer.dump.jiffies), hz, question.kind)
