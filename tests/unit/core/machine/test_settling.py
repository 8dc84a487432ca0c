# SPDX-License-Identifier: GPL-2.0-or-later
"""How long to wait for frees that are on their way, by made-up clocks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.machine.settling import LEAST_S, MOST_S, Level, Settled, is_settled
from kleaktrace.edge.machine.settle import rcu_barrier, settle


class Kernel:
    """Of `candidates`, each is freed at its time (s); a clock that only sleeping moves, and that counts barriers."""

    def __init__(self, *freed_at: float) -> None:
        self.freed_at = freed_at
        self.now = 100.0
        self.barriers = 0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def left(self) -> int:
        return sum(at > self.now - 100.0 for at in self.freed_at)

    def barrier(self) -> None:
        self.barriers += 1

    def settle(self) -> Settled:
        return settle(self.left, self.sleep, clock=lambda: self.now, barrier=self.barrier)


NEVER = float("inf")


@pytest.mark.parametrize(
    ("freed_at", "waited"),
    [
        ((), Settled(0.0, 0, 0)),
        ((0.3, 0.7), Settled(1.0, 2, 0)),
        ((NEVER,), Settled(6.0, 0, 1)),
        ((0.3, 0.7, NEVER), Settled(6.0, 2, 1)),
        # kfree_rcu's batch comes after five seconds: two more without any
        ((5.2, 5.2, NEVER), Settled(7.5, 2, 1)),
        ((4.0, 5.9, 7.8, 9.7, NEVER), Settled(12.0, 4, 1)),
        # one after the other for ever
        (tuple(float(at) for at in range(100)), Settled(20.0, 20, 79)),
    ],
)
def test_waits_while_frees_keep_coming(freed_at: tuple[float, ...], waited: Settled) -> None:
    kernel = Kernel(*freed_at)
    assert kernel.settle() == waited
    assert kernel.barriers == waited.seconds / 0.5


def test_new_ones_are_no_frees() -> None:
    looks = [Level(second / 2, 10 + second) for second in range(13)]
    assert not is_settled(looks[:12])
    assert is_settled(looks)


def test_without_a_look_nothing_is_settled() -> None:
    assert not is_settled([])


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 9)), max_size=40))
def test_the_bounds_hold_whatever_comes(steps: list[tuple[float, int]]) -> None:
    looks = [Level(0.0, 5)]
    for seconds, left in steps:
        looks.append(Level(looks[-1].time_s + seconds, left))
        waited, done = looks[-1].time_s, is_settled(looks)
        assert done or waited < MOST_S
        assert done or left
        assert not done or not left or waited >= LEAST_S


def test_being_asked_to_end_ends_the_wait() -> None:
    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settle(lambda: 1, sleep, barrier=lambda: None)


def test_in_words() -> None:
    assert str(Settled(6.43, 1200, 3)) == "waited 6.4 s for RCU and work queues: 1,200 freed meanwhile"
    assert str(Settled(0.0, 0, 0)) == "nothing to wait for"


def test_the_kernel_is_asked_for_a_barrier(tmp_path: Path) -> None:
    file = tmp_path / "do_rcu_barrier"
    file.touch()
    rcu_barrier(file)
    assert file.read_text() == "1"


def test_without_a_barrier_a_grace_period_does(tmp_path: Path) -> None:
    rcu_barrier(tmp_path / "not there" / "do_rcu_barrier")
