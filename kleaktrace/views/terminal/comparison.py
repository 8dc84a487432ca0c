# SPDX-License-Identifier: GPL-2.0-or-later
"""What has changed between two captures, for people: new leaks first, each change with its interval."""

from __future__ import annotations

from rich.console import Console

from kleaktrace.core.comparison.common_stacks import CompareBy
from kleaktrace.core.comparison.comparison import Amount, Because, Change, ChangeKind, Comparison, Side
from kleaktrace.core.comparison.thresholds import Conclusion, FailOn, Outcome
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.core.tables.stack_rows import StackVerdict
from kleaktrace.views.terminal import units
from kleaktrace.views.terminal.console import print_line
from kleaktrace.views.terminal.suspect_words import why_kept

_MANY = 20
_FRAMES = 12

_STYLES = {
    ChangeKind.NEW: "bold yellow",
    ChangeKind.GROWN: "bold yellow",
    ChangeKind.GONE: "bold green",
    ChangeKind.SHRUNK: "bold green",
}


_OUTCOMES = {Outcome.FAILED: "bold red", Outcome.INCOMPLETE: "yellow", Outcome.PASSED: "bold"}


def show(console: Console, comparison: Comparison, conclusion: Conclusion, fail_on: FailOn) -> None:
    """The changes, what they rest on, and what came of what was asked."""
    for name, side in (("before", comparison.before), ("after", comparison.after)):
        print_line(console, f"{name + ':':8}{side_words(side, comparison.unit)}", "bold")
        for gap in side.gaps:
            print_line(console, f"        {gap}", "dim")
    for hint in hints(comparison):
        print_line(console, hint, "yellow")
    for change in comparison.changes[:_MANY]:
        console.print()
        _show_change(console, change, comparison)
    if len(comparison.changes) > _MANY:
        print_line(console, f"… and {len(comparison.changes) - _MANY:,} more call stacks (--json has all)", "dim")
    console.print()
    for words in footnotes(comparison):
        print_line(console, words, "dim")
    for why in conclusion.unanswered:
        print_line(console, f"evidence incomplete: {why}", "yellow")
    print_line(console, outcome_words(comparison, conclusion, fail_on), _OUTCOMES[conclusion.outcome])


def side_words(side: Side, unit: str) -> str:
    """A recording in a line."""
    about = f", {side.units:,g} operations" if unit == "operation" else ""
    return (
        f"Linux {side.kernel.release} {side.kernel.arch}, {side.started:%Y-%m-%d %H:%M:%S %Z}, "
        f"{units.seconds(side.seconds)}{about}: {side.verdict}; "
        f"lost: {units.count(side.lost, 'event') if side.lost else 'nothing'}"
    )


def hints(comparison: Comparison) -> list[str]:
    """What a reader should know before they believe it."""
    found = list(comparison.not_comparable)
    if comparison.by is CompareBy.STACK and comparison.before.kernel.release != comparison.after.kernel.release:
        found.append("the kernels are not the same: where code has changed, --by function finds the same stacks again")
    return found


def footnotes(comparison: Comparison) -> list[str]:
    """What is not listed."""
    found = [f"within the interval, and not listed: {units.count(comparison.within, 'call stack')}"]
    if comparison.kept:
        stacks = units.count(len(comparison.kept), "call stack")
        why = why_kept(change.kept for change in comparison.kept)
        found.append(f"changed, but kept on purpose: {stacks} ({why})")
    return found


def heading(change: Change) -> str:
    """What became of a stack, and what speaks for it."""
    if change.is_new_leak:
        was = "was undecided" if change.before.verdict is StackVerdict.UNDECIDED else "was not"
        return f"NEW LEAK: confirmed in AFTER, {was} in BEFORE"
    if Because.LEAK in change.because:
        return f"{change.kind}: a leak that was confirmed in BEFORE is not confirmed in AFTER"
    if Because.MODULE in change.because:
        one, other = ("AFTER", "BEFORE") if change.kind is ChangeKind.NEW else ("BEFORE", "AFTER")
        return f"{change.kind}: of a module that came or went in {one}, and of which {other} has seen nothing"
    return str(change.kind)


def figures(change: Change, unit: str) -> list[tuple[str, str]]:
    """By how much, in words: names and values."""
    per = {"second": "s", "operation": "operation"}[unit]
    return [
        ("bytes", f"{_more(change.bytes)} (95 %: {_size(change.bytes.low)} to {_size(change.bytes.high)})"),
        ("objects", _objects(change.objects)),
        ("rate", f"{_more(change.bytes_per_unit)}/{per}"),
        ("before", amount_words(change.before)),
        ("after", amount_words(change.after)),
    ]


def amount_words(amount: Amount) -> str:
    """What a recording has of a stack."""
    if amount.verdict is None:
        return "never seen"
    said = "" if amount.verdict is StackVerdict.ALIVE else f", {amount.verdict}"
    return (
        f"{units.count(amount.objects, 'object')}, {units.size(amount.bytes)} outstanding "
        f"of {units.count(amount.allocations, 'allocation')}{said}"
    )


def _show_change(console: Console, change: Change, comparison: Comparison) -> None:
    told = dict(figures(change, comparison.unit))
    style = "bold red" if change.is_new_leak else _STYLES[change.kind]
    print_line(console, f"{heading(change)}: {told['bytes']}, {told['rate']}", style)
    print_line(console, f"    objects {told['objects']}")
    print_line(console, f"    before: {told['before']}; after: {told['after']}")
    where = ", ".join(word for word in (change.cache, change.context, change.comm) if word)
    print_line(console, f"    {'; '.join(filter(None, (where, change.held, change.kept)))}")
    for line in change.lines[:_FRAMES]:
        print_line(console, f"      {line}")
    if len(change.lines) > _FRAMES:
        print_line(console, f"      … {len(change.lines) - _FRAMES} more", "dim")


def _more(interval: Interval) -> str:
    return _size(interval.estimate)


def _size(count: float) -> str:
    """With its sign."""
    return ("+" if round(count) > 0 else "") + units.size(count)


def _objects(interval: Interval) -> str:
    low, estimate, high = (f"{end:+,.0f}" for end in (interval.low, interval.estimate, interval.high))
    return f"{estimate} (95 %: {low} to {high})"


def outcome_words(comparison: Comparison, conclusion: Conclusion, fail_on: FailOn) -> str:
    """What came of what was asked."""
    changed = units.count(len(comparison.changes), "call stack")
    said = f"{changed} changed" if comparison.changes else "nothing changed"
    match conclusion.outcome:
        case Outcome.FAILED:
            return f"FAILED: {'; '.join(conclusion.failures)}"
        case Outcome.INCOMPLETE:
            return f"incomplete: {said}, but not everything could be seen"
        case Outcome.PASSED:
            return said if fail_on == FailOn() else f"passed: {said}"
