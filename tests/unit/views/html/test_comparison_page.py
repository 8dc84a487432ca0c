# SPDX-License-Identifier: GPL-2.0-or-later
"""The page's text and data; what a browser makes of it is in tests/browser."""

from __future__ import annotations

from typing import Any

from comparisons import change, comparison, new_leak, side
from html_reader import Reader
from packed_tables import unpacked
from recordings import HOSTILE, hostile, nothing

from kleaktrace.core.comparison.compare import compare
from kleaktrace.core.comparison.comparison import Comparison
from kleaktrace.core.comparison.thresholds import FailOn, conclude
from kleaktrace.core.growth.intervals import Interval
from kleaktrace.terminal import clean
from kleaktrace.views.html.comparison_page import comparison_page


def read(found: Comparison, fail_on: FailOn = FailOn()) -> tuple[Reader, Any]:  # noqa: B008 - it is frozen
    reader = Reader(comparison_page(found, conclude(found, fail_on), fail_on))
    return reader, unpacked(reader.inside["script"][0])


def test_the_answer_and_what_it_rests_on() -> None:
    words = read(comparison(changes=(new_leak(),), before=side(gaps=("a gap",), lost=3)), FailOn(True))[0].text
    assert "FAILED: new-leak: 1 call stack" in words
    assert "Before: Linux 6.12.0-made-up x86_64, 2026-01-02 03:04:05 UTC, 60.0 s: clean; lost: 3 events" in words
    assert "Before: a gap" in words
    assert "within the interval, and not listed: 213 call stacks" in words
    assert "What has changed" in words
    assert "Over time" not in words


def test_the_changes_are_painted_by_more_and_less() -> None:
    less = change(bytes=Interval(-10.4, -20.0, -1.0), objects=Interval(3.0, -1.0, 5.0), comm="other")
    data = read(comparison(changes=(new_leak(), change(), less), kept=(change(kept="cached"),)))[1]
    assert data["kind"] == [0, 1, 2, 3]
    assert data["bytes"] == [1536, 1536, 10, 1536]
    assert data["bytes_less"] == [0, 0, 1, 0]
    assert data["objects_less"] == [0, 0, 0, 0]
    assert [data["strings"][number] for number in data["reason"]] == ["", "", "", "cached"]
    assert [data["strings"][number] for number in data["before_words"]] == ["never seen"] * 4
    assert len(set(data["leaf"])) == 1
    assert [measure["name"] for measure in data["measures"]] == ["bytes", "objects"]


def test_nothing_has_changed() -> None:
    reader, data = read(comparison(changes=()))
    assert "nothing changed" in reader.text
    assert (data["kind"], data["leaf"]) == ([], [])


def test_hostile_names_are_text() -> None:
    found = compare(nothing()[0], hostile()[0])
    document = comparison_page(found, conclude(found, FailOn()), FailOn())
    assert all(character.isprintable() or character == "\n" for character in document)
    strings = unpacked(Reader(document).inside["script"][0])["strings"]
    for name in HOSTILE:
        assert clean(name) in strings
