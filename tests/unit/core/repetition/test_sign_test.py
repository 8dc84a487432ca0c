# SPDX-License-Identifier: GPL-2.0-or-later
"""What convicts by repetition, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.repetition.sign_test import ANY, GONE, Course, Repetition, at_least, repetition

COUNTS = st.lists(st.integers(0, 20), min_size=1, max_size=50)


def judged(*left: int, doubtful: int = 0, needed: float = GONE) -> Repetition:
    return repetition(np.array(left, np.int64), doubtful, needed)


@pytest.mark.parametrize("per_round", [1, 2, 17])
def test_the_same_in_every_round_is_a_leak(per_round: int) -> None:
    said = judged(*[per_round] * 40, needed=ANY)
    assert said.course is Course.GROWS
    assert (said.total, said.grew_in, said.per_round) == (36, 36, per_round)
    assert said.chance < 1e-16


def test_six_loads_of_a_module_are_enough_and_five_are_not() -> None:
    assert judged(1, 1, 1, 1, 1, 1).course is Course.GROWS
    assert judged(1, 1, 1, 1, 1).course is Course.UNCLEAR


def test_what_core_code_keeps_needs_eight_rounds() -> None:
    assert judged(*[1] * 7, needed=ANY).course is Course.UNCLEAR
    assert judged(*[1] * 8, needed=ANY).course is Course.GROWS


def test_the_first_round_may_leave_nothing_or_more() -> None:
    assert judged(0, 2, 2, 2, 2, 2).course is Course.GROWS
    assert judged(9, 2, 2, 2, 2, 2).course is Course.GROWS


def test_the_last_rounds_may_leave_more_that_is_still_to_be_freed() -> None:
    said = judged(1, 1, 1, 1, 1, 1, 8)
    assert (said.course, said.per_round) == (Course.GROWS, 1)


def test_what_fills_up_levels_off() -> None:
    assert judged(8, 4, 2, 1, 0, 0, 0, 0, 0, 0).course is Course.LEVELS_OFF
    assert judged(0, 0, 0, 1, 0, 0, 0).course is Course.LEVELS_OFF


def test_a_single_late_round_may_be_a_leak_on_a_rare_path() -> None:
    assert judged(0, 0, 0, 1, 0, 0).course is Course.LEVELS_OFF
    assert judged(0, 0, 0, 0, 2, 0).course is Course.UNCLEAR
    assert judged(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0).course is Course.UNCLEAR


def test_what_leaves_less_and_less_is_no_leak_yet() -> None:
    assert judged(64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1, needed=ANY).course is Course.UNCLEAR


def test_what_the_next_round_frees_is_pending() -> None:
    assert judged(0, 0, 0, 0, 0, 0, 3).course is Course.PENDING


def test_a_leak_must_go_on_to_the_end() -> None:
    assert judged(*[1] * 20, 0, needed=ANY).course is Course.UNCLEAR


def test_one_round_in_ten_may_leave_nothing() -> None:
    assert judged(*[1] * 12, 0, *[1] * 9, needed=ANY).course is Course.GROWS
    assert judged(*[1] * 12, 0, 0, 0, *[1] * 7, needed=ANY).course is Course.UNCLEAR


def test_what_may_have_been_freed_unseen_clears_the_cheapest_rounds_first() -> None:
    assert judged(2, 2, 2, 2, 2, 2, doubtful=1).course is Course.GROWS
    assert judged(2, 2, 2, 2, 2, 2, doubtful=2).course is Course.UNCLEAR
    assert judged(5, 5, 1, 5, 5, 5, doubtful=1).grew_in == 4


def test_the_tail_of_the_binomial_distribution() -> None:
    assert at_least(0, 5, 0.3) == pytest.approx(1)
    assert at_least(5, 5, 1 / 3) == pytest.approx(1 / 243)
    assert at_least(4, 5, 0.5) == pytest.approx(6 / 32)


@given(COUNTS, st.integers(0, 100))
def test_doubt_never_convicts(left: list[int], doubtful: int) -> None:
    if judged(*left).course is not Course.GROWS:
        assert judged(*left, doubtful=doubtful).course is not Course.GROWS


@given(COUNTS)
def test_rounds_that_leave_nothing_after_all_clear(left: list[int]) -> None:
    assert judged(*left, *[0] * (len(left) + 6), needed=ANY).course is not Course.GROWS
