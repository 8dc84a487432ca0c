# SPDX-License-Identifier: GPL-2.0-or-later
"""Where rounds begin and end, whoever says so."""

from __future__ import annotations

from kleaktrace.core.evidence.rounds import RoundSeries, RoundSource, load_cycles, marked, repeated


def test_runs_last_until_the_next_begins_and_the_last_until_the_end() -> None:
    runs = repeated([10, 20, 30], 35)
    assert runs == RoundSeries(RoundSource.REPEAT, (10, 20, 30, 35))
    assert (runs.count, str(runs)) == (3, "run")
    assert repeated([], 35).count == 0


def test_marks_with_names_of_their_own_are_rounds_of_one_series() -> None:
    assert marked([(20, "b"), (10, "a"), (30, "c"), (90, "too late")], 40) == [
        RoundSeries(RoundSource.MARK, (10, 20, 30, 40))
    ]
    assert marked([], 40) == []


def test_marks_that_come_again_are_compared_by_name() -> None:
    found = marked([(10, "set up"), (20, "use"), (30, "set up"), (40, "use"), (50, "once")], 60)
    assert found == [
        RoundSeries(RoundSource.MARK, (10, 30, 60), "set up"),
        RoundSeries(RoundSource.MARK, (20, 40, 60), "use"),
    ]
    assert [str(series) for series in found] == ["round of set up", "round of use"]


def test_a_module_s_rounds_last_from_load_to_load() -> None:
    cycles = load_cycles("drv", [10, 20, 30], [15, 25, 35], 50)
    assert cycles == RoundSeries(RoundSource.LOAD, (10, 20, 30, 50), "drv")
    assert str(cycles) == "load of drv"


def test_a_module_that_is_still_loaded_is_in_no_round() -> None:
    assert load_cycles("drv", [10, 20, 30], [15, 25], 50).edges == (10, 20, 30)
    assert load_cycles("drv", [10], [], 50).count == 0
