# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparison of two captures as one HTML file: what has changed as a flame graph, painted by more and less."""

from __future__ import annotations

from kleaktrace.core.comparison.comparison import Comparison, Side
from kleaktrace.core.comparison.thresholds import Conclusion, FailOn, Outcome
from kleaktrace.views.html.comparison_data import comparison_data
from kleaktrace.views.html.markup import Html, element
from kleaktrace.views.html.page import Mode, html_file, stacks_section
from kleaktrace.views.terminal.comparison import footnotes, hints, outcome_words, side_words

_CLASSES = {Outcome.FAILED: "leaks", Outcome.INCOMPLETE: "incomplete", Outcome.PASSED: "clean"}
_NOTHING_ASKED = FailOn()


def comparison_page(comparison: Comparison, conclusion: Conclusion, fail_on: FailOn) -> str:
    """The whole file."""
    answer = outcome_words(comparison, conclusion, fail_on)
    passed = conclusion.outcome is Outcome.PASSED and fail_on == _NOTHING_ASKED
    colour = "" if passed else _CLASSES[conclusion.outcome]
    body = [
        element(
            "header",
            element("h1", answer, class_=f"outcome {colour}"),
            *_side("Before", comparison.before, comparison.unit),
            *_side("After", comparison.after, comparison.unit),
            *(element("p", hint, class_="gap") for hint in hints(comparison)),
            *(element("p", f"Evidence incomplete: {why}", class_="gap") for why in conclusion.unanswered),
            *(element("p", note, class_="session") for note in footnotes(comparison)),
        ),
        stacks_section(Mode.COMPARISON),
    ]
    return html_file(Mode.COMPARISON, f"kleaktrace diff: {answer}", Html(comparison_data(comparison)), body)


def _side(name: str, side: Side, unit: str) -> list[Html]:
    return [
        element("p", f"{name}: {side_words(side, unit)}", class_="session"),
        *(element("p", f"{name}: {gap}", class_="session") for gap in side.gaps),
    ]
