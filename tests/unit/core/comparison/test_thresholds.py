# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from comparisons import change, comparison, new_leak, side

from kleaktrace.core.comparison.comparison import Comparison
from kleaktrace.core.comparison.thresholds import FailOn, Outcome, conclude
from kleaktrace.errors import ExitCode


def exit_code(found: Comparison, fail_on: FailOn) -> int:
    return int(conclude(found, fail_on).exit_code)


def test_nothing_is_failed_on_that_was_not_asked_for() -> None:
    assert exit_code(comparison(changes=(new_leak(),)), FailOn()) == ExitCode.CLEAN


def test_a_new_leak() -> None:
    found = conclude(comparison(changes=(new_leak(), change())), FailOn(new_leak=True))
    assert found.failures == ["new-leak: 1 call stack"]
    assert found.exit_code == ExitCode.LEAKS
    assert exit_code(comparison(changes=(change(),)), FailOn(new_leak=True)) == ExitCode.CLEAN


def test_growth_is_what_it_surely_is() -> None:
    assert exit_code(comparison(), FailOn(growth=8.0)) == ExitCode.LEAKS
    assert exit_code(comparison(), FailOn(growth=8.5)) == ExitCode.CLEAN
    assert exit_code(comparison(), FailOn(growth=20.0)) == ExitCode.CLEAN, "though the estimate is more"
    assert exit_code(comparison(changes=(), kept=(change(kept="cached"),)), FailOn(growth=1.0)) == ExitCode.CLEAN


def test_new_leaks_can_go_unseen() -> None:
    for found in (
        comparison(changes=(), after=side(gaps=("kmemleak was off",))),
        comparison(changes=(), undecided=("ab3001651563cb7b",)),
        comparison(changes=(), nameless_leaks=1),
    ):
        assert exit_code(found, FailOn(new_leak=True)) == ExitCode.INCOMPLETE
        assert exit_code(found, FailOn(growth=1.0)) == ExitCode.CLEAN, "which has nothing to do with it"
        assert exit_code(found, FailOn()) == ExitCode.CLEAN
    before = comparison(changes=(), before=side(gaps=("kmemleak was off",)))
    assert exit_code(before, FailOn(new_leak=True)) == ExitCode.CLEAN


def test_changes_that_lost_events_hide() -> None:
    hidden = comparison(changes=(), hidden=(change(),))
    assert exit_code(hidden, FailOn()) == ExitCode.INCOMPLETE
    assert exit_code(hidden, FailOn(growth=1.0)) == ExitCode.INCOMPLETE
    assert exit_code(hidden, FailOn(growth=9.0)) == ExitCode.CLEAN, "it grows less than that anyway"
    assert exit_code(hidden, FailOn(new_leak=True)) == ExitCode.CLEAN
    assert exit_code(comparison(changes=(), hidden=(change(kept="cached"),)), FailOn()) == ExitCode.CLEAN


def test_what_cannot_be_compared_does_not_pass() -> None:
    found = comparison(changes=(), not_comparable=("vfree events are only seen in AFTER",))
    assert exit_code(found, FailOn(growth=1.0)) == ExitCode.INCOMPLETE
    assert exit_code(found, FailOn()) == ExitCode.CLEAN


def test_a_failure_is_one_whatever_else_there_may_be() -> None:
    found = conclude(comparison(changes=(new_leak(),), after=side(gaps=("loss",))), FailOn(True, 1.0))
    assert found.outcome is Outcome.FAILED
    assert found.failures == ["new-leak: 1 call stack", "growth=1: 1 call stack"]
    assert found.unanswered == ["AFTER: loss"]
