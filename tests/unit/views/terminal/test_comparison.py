# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from dataclasses import replace

from comparisons import change, comparison, new_leak, side
from recordings import KERNEL, hostile, nothing
from reports import console, printed
from schemas import validated

from kleaktrace.core.comparison.common_stacks import CompareBy
from kleaktrace.core.comparison.compare import compare
from kleaktrace.core.comparison.comparison import Amount, Because, ChangeKind, Comparison
from kleaktrace.core.comparison.thresholds import FailOn, conclude
from kleaktrace.core.tables.stack_rows import StackVerdict
from kleaktrace.views.documents.comparison import document
from kleaktrace.views.terminal.comparison import show


def shown(found: Comparison, fail_on: FailOn = FailOn()) -> str:  # noqa: B008 - it is frozen
    screen = console(140)
    show(screen, found, conclude(found, fail_on), fail_on)
    return printed(screen)


def test_the_whole_screen() -> None:
    assert shown(comparison(changes=(new_leak(held="processes that live on may hold it"),)), FailOn(True)) == (
        "before: Linux 6.12.0-made-up x86_64, 2026-01-02 03:04:05 UTC, 60.0 s: clean; lost: nothing\n"
        "after:  Linux 6.12.0-made-up x86_64, 2026-01-02 03:04:05 UTC, 60.0 s: leaks; lost: nothing\n"
        "\n"
        "NEW LEAK: confirmed in AFTER, was not in BEFORE: +1.5 KiB (95 %: +512 B to +3.8 KiB), +26 B/s\n"
        "    objects +12 (95 %: +4 to +30)\n"
        "    before: never seen; after: 12 objects, 1.5 KiB outstanding of 1,204 allocations, confirmed\n"
        "    kmalloc-128, task, insmod; processes that live on may hold it\n"
        "      drv_probe+0x22/0x100 [drv]\n"
        "      do_one_initcall+0x22/0x1000\n"
        "\n"
        "within the interval, and not listed: 213 call stacks\n"
        "FAILED: new-leak: 1 call stack\n"
    )


def test_why_something_is_listed() -> None:
    gone = {
        "kind": ChangeKind.GONE,
        "before": Amount(1, 128, 1, StackVerdict.CONFIRMED),
        "after": Amount(0, 0, 4, None),
    }
    for made, words in (
        (
            change(because=(Because.MODULE,)),
            "new: of a module that came or went in AFTER, and of which BEFORE has seen",
        ),
        (change(**{**gone, "because": (Because.MODULE,)}), "gone: of a module that came or went in BEFORE"),
        (change(**{**gone, "because": (Because.LEAK,)}), "gone: a leak that was confirmed in BEFORE is not confirmed"),
        (new_leak(before=Amount(1, 128, 1, StackVerdict.UNDECIDED)), "NEW LEAK: confirmed in AFTER, was undecided"),
        (change(kind=ChangeKind.GROWN), "grown: +1.5 KiB"),
    ):
        assert words in shown(comparison(changes=(made,)))


def test_what_a_reader_should_know() -> None:
    other = replace(KERNEL, release="6.13")
    words = shown(comparison(after=side(kernel=other), not_comparable=("vfree events are only seen in AFTER",)))
    assert "--by function" in words
    assert "vfree events are only seen in AFTER" in words
    assert "--by function" not in shown(comparison(by=CompareBy.FUNCTION, after=side(kernel=other)))
    by_operation = shown(comparison(unit="operation", before=side(units=100), after=side(units=1200)))
    assert "60.0 s, 1,200 operations: clean" in by_operation
    assert "+26 B/operation" in by_operation
    assert "a gap" in shown(comparison(before=side(gaps=("a gap",))))


def test_how_it_ends() -> None:
    def last(found: Comparison, fail_on: FailOn = FailOn()) -> str:  # noqa: B008 - it is frozen
        return shown(found, fail_on).splitlines()[-1]

    assert last(comparison()) == "1 call stack changed"
    assert last(comparison(changes=())) == "nothing changed"
    assert last(comparison(), FailOn(new_leak=True)) == "passed: 1 call stack changed"
    incomplete = comparison(changes=(), hidden=(change(),))
    assert last(incomplete) == "incomplete: nothing changed, but not everything could be seen"
    assert "1 call stack would be told apart if no events were lost" in shown(incomplete)


def test_many_changes_are_cut_and_counted() -> None:
    words = shown(comparison(changes=[change(lines=("f",) * 30)] * 25, kept=[change(kept="cached")] * 2))
    assert words.count("new: ") == 20
    assert "… and 5 more call stacks" in words
    assert "… 18 more" in words
    assert "kept on purpose: 2 call stacks (cached)" in words


def test_hostile_names_reach_no_terminal() -> None:
    words = shown(compare(nothing()[0], hostile()[0]))
    assert "NEW LEAK" in words
    assert all(character.isprintable() for character in words.replace("\n", ""))


def test_the_document_is_as_the_schema_says() -> None:
    found = comparison(
        changes=(new_leak(),),
        kept=(change(kept="cached"),),
        hidden=(change(held="somebody"),),
        before=side(gaps=("a gap",), lost=3),
    )
    told = validated(json.loads(json.dumps(document(found, conclude(found, FailOn(True, 1.0))))))
    (one,) = told["changes"]
    assert (one["change"], one["new_leak"], one["before"]["verdict"]) == ("new", True, None)
    assert one["bytes"] == {"estimate": 1536.0, "ci95": [512.0, 3840.0]}
    assert told["before"]["gaps"] == ["a gap"]
    assert (told["outcome"], told["failures"]) == ("failed", ["new-leak: 1 call stack", "growth=1: 1 call stack"])
    assert (told["compared"], told["within_interval"]) == (214, 212)
    for made in (nothing(), hostile()):
        real = compare(nothing()[0], made[0])
        validated(json.loads(json.dumps(document(real, conclude(real, FailOn())))))
