# SPDX-License-Identifier: GPL-2.0-or-later
"""How long the drain rests: long where little happens, until a good batch has come where much does."""

from __future__ import annotations

import pytest

from kleaktrace.session.drain_interval import drain_interval_s


def test_a_quiet_machine_is_left_in_peace() -> None:
    assert drain_interval_s(0, 0.5) == drain_interval_s(1000, 0.5) == drain_interval_s(0, 0.0) == 0.5


def test_a_busy_one_is_looked_at_when_a_good_batch_has_come() -> None:
    assert drain_interval_s(20_000_000, 0.1) == pytest.approx((4 << 20) / 200_000_000)


def test_however_fast_it_gets_there_is_a_rest() -> None:
    assert drain_interval_s(1 << 40, 0.1) == 0.005
