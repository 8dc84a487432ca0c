# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.clock import JiffiesClock, Moment, signed_difference

SECOND = 1_000_000_000
ANY = st.integers(0, 2**64 - 1)


@given(ANY, st.integers(-(2**31), 2**31 - 1))
def test_the_difference_of_low_halves_is_right_across_the_wrap(earlier: int, distance: int) -> None:
    low = 0xFFFF_FFFF
    assert signed_difference((earlier + distance) & low, earlier & low) == distance
    assert signed_difference(earlier + distance, earlier) == distance, "the high halves don't matter"


def clock(seconds: float, ticks: int) -> JiffiesClock:
    return JiffiesClock(Moment(5 * SECOND, 1000), Moment(5 * SECOND + round(seconds * SECOND), 1000 + ticks))


@pytest.mark.parametrize("hz", [100, 250, 300, 1000])
@pytest.mark.parametrize("off", [-2, 0, 2])
@pytest.mark.parametrize("seconds", [0.2, 3.0])
def test_a_common_tick_rate_is_recognised_though_readings_are_off_by_a_tick_or_two(
    hz: int, off: int, seconds: float
) -> None:
    assert clock(seconds, round(seconds * hz) + off).hz == hz


def test_an_uncommon_tick_rate_is_used_as_measured() -> None:
    assert clock(100.0, 2400).hz == pytest.approx(24)


@pytest.mark.parametrize(("seconds", "ticks"), [(0, 0), (-1, 0), (1, 0), (1e-9, 0)])
def test_a_clock_that_did_not_run_still_has_a_rate(seconds: float, ticks: int) -> None:
    assert clock(seconds, ticks).hz >= 1


def test_ages_count_back_from_the_end_and_are_never_negative() -> None:
    ten_seconds = clock(10, 2500)
    assert ten_seconds.age_s(1000) == pytest.approx(10)
    assert ten_seconds.age_s(3500) == 0
    assert ten_seconds.age_s(3600) == 0
    assert ten_seconds.age_s(0) == pytest.approx(14)


def test_a_time_within_the_tolerance_of_the_start_may_lie_before_it() -> None:
    window = clock(10, 2500)
    assert [window.before_start(at, 2) for at in (0, 999, 1000, 1001, 1002, 2000)] == [True] * 4 + [False] * 2
