# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on a whole session."""

from __future__ import annotations

import pytest
from reports import judged

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.report import Outcome, outcome

LEAK = judged(verdict=Verdict.CONFIRMED)
FREED = judged(verdict=Verdict.DISMISSED)
UNSURE = judged(verdict=Verdict.UNDECIDED)
UNSURE_BUT_OLD = judged(verdict=Verdict.UNDECIDED, in_window=False, counts_against_clean=False)


@pytest.mark.parametrize(
    ("suspects", "gaps", "expected"),
    [
        ([], [], Outcome.CLEAN),
        ([FREED], [], Outcome.CLEAN),
        ([UNSURE_BUT_OLD], [], Outcome.CLEAN),
        ([UNSURE], [], Outcome.INCOMPLETE),
        ([], ["5 events were lost"], Outcome.INCOMPLETE),
        ([FREED], ["5 events were lost"], Outcome.INCOMPLETE),
        ([FREED, UNSURE, LEAK], ["5 events were lost"], Outcome.LEAKS),
        ([LEAK], [], Outcome.LEAKS),
    ],
)
def test_clean_is_only_said_when_nothing_is_missing(suspects: list, gaps: list[str], expected: Outcome) -> None:
    assert outcome(suspects, gaps) is expected


def test_the_exit_codes_are_the_contract_s() -> None:
    assert {str(o): int(o.exit_code) for o in Outcome} == {"clean": 0, "leaks": 1, "incomplete": 4}
