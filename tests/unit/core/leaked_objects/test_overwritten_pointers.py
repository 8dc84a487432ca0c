# SPDX-License-Identifier: GPL-2.0-or-later
"""Only the youngest of each round is ever freed: when that is said, and that chance seldom says it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleaktrace.core.leaked_objects.overwritten_pointers import OverwrittenPointer, overwritten_pointer

ROUND = 1000


def look(rounds: list[str]) -> OverwrittenPointer | None:
    """Rounds as words: each letter an allocation in order of birth, l leaked and f freed."""
    born = [(ROUND * number + place, fate) for number, word in enumerate(rounds) for place, fate in enumerate(word)]
    leaked, freed = ([time for time, fate in born if fate == wanted] for wanted in "lf")
    return overwritten_pointer(leaked, freed, range(0, ROUND * (len(rounds) + 1), ROUND))


def test_youngest_of_each_round():
    found = look(["llllf"] * 8)
    assert found == OverwrittenPointer(8, 5, 5, pytest.approx(5**-8))
    assert str(found) == (
        "only the youngest of each 5 is ever freed (in 8 of 8 rounds): "
        "it looks as if a pointer was overwritten before its object was freed"
    )


def test_rounds_of_different_sizes():
    assert look(["lf", "lllf", "llllllf"]) is None  # 1 in 56
    found = look(["lf", "lllf", "llllllf", "lf"])
    assert found == OverwrittenPointer(4, 2, 7, pytest.approx(1 / 112))
    assert "of each 2 to 7 is" in str(found)


def test_one_round_needs_more_than_a_hundred():
    assert look(["l" * 99 + "f"]) is None
    found = look(["l" * 100 + "f"])
    assert found == OverwrittenPointer(1, 101, 101, pytest.approx(1 / 101))
    assert str(found).startswith("only the youngest of 101 was freed: ")


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param([], id="no rounds"),
        pytest.param(["llll"] * 8, id="none freed"),
        pytest.param(["f"] * 8, id="none leaked"),
        pytest.param(["llllf"] * 2, id="may be chance"),
        pytest.param(["llllf"] * 8 + ["lllfl"], id="once another"),
        pytest.param(["llllf"] * 8 + ["lllff"], id="once two"),
        pytest.param(["llllf"] * 8 + ["ff"], id="once both of two"),
        pytest.param(["flllll"] * 8, id="the oldest"),
    ],
)
def test_nothing_is_said(rounds):
    assert look(rounds) is None


def test_rounds_that_say_nothing_do_not_count():
    assert look(["llllf", "f", "llllf", "", "llllf", "lll"]) == look(["llllf"] * 3)


def test_what_is_as_old_as_the_youngest_leaked_is_not_younger():
    assert overwritten_pointer([1] * 200, [1], [0, 10]) is None
    assert overwritten_pointer([1] * 200, [2], [0, 10]) is not None


def test_births_outside_of_the_rounds_are_left_out():
    inside = overwritten_pointer(range(10, 210), [500], [10, 600])
    assert inside == overwritten_pointer([5, *range(10, 210), 600], [500, 9, 700], [10, 600])
    assert inside is not None


@given(st.lists(st.text("lf", max_size=8), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
@pytest.mark.thorough
def test_what_is_found_is_what_the_rounds_show(rounds, random):
    telling = [word for word in rounds if set(word) == {"l", "f"}]
    chance = np.prod([1 / len(word) for word in telling])
    fits = all(word.count("f") <= 1 for word in rounds) and all(word.endswith("f") for word in telling)
    found = look(rounds)
    assert (found is not None) == (fits and chance < 0.01)
    shuffled = list(rounds)
    random.shuffle(shuffled)
    assert look(shuffled) == (
        found and OverwrittenPointer(found.rounds, found.fewest, found.most, pytest.approx(chance))
    )


@pytest.mark.parametrize(("size", "rounds"), [(2, 7), (3, 5), (5, 3), (101, 1)])
def test_chance_alone_is_seldom_taken_for_it(size, rounds):
    random = np.random.default_rng(size)
    taken = 0
    for _ in range(5000):
        words = ["l" * place + "f" + "l" * (size - 1 - place) for place in random.integers(0, size, rounds)]
        taken += look(words) is not None
    assert taken <= 75  # 1 % and what 5,000 tries may add to it
