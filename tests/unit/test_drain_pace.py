"""How long the drain rests: long where little happens, never so long that the ring could overflow meanwhile."""

from __future__ import annotations

import pytest

from kleaktrace.core.drain_pace import DrainPace

LARGE = DrainPace(128 << 20, 2)


def test_a_quiet_machine_is_left_in_peace() -> None:
    assert LARGE.rest_s(0, 0.1) == LARGE.rest_s(1000, 0.1) == LARGE.longest_s == 0.1
    assert DrainPace(64 << 20, 2).longest_s == pytest.approx(0.0645, abs=1e-3)


def test_a_busy_one_is_looked_at_when_a_good_batch_has_come() -> None:
    assert LARGE.rest_s(20_000_000, 0.1) == pytest.approx((4 << 20) / 200_000_000)


def test_however_fast_it_gets_there_is_a_rest() -> None:
    assert LARGE.rest_s(1 << 40, 0.1) == 0.005


@pytest.mark.parametrize(
    ("ring", "processors", "rate"),
    [(128 << 20, 2, 260e6), (16 << 20, 2, 260e6), (128 << 20, 256, 700e6), (16 << 20, 64, 700e6)],
)
def test_the_longest_rest_leaves_most_of_the_ring_free(ring: int, processors: int, rate: float) -> None:
    longest = DrainPace(ring, processors).longest_s
    assert longest * rate <= ring / 4 * 1.001
    assert DrainPace(ring, processors).rest_s(0, 1.0) == longest
