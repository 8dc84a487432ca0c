# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of known leaks: what they name, what that holds for, and what of it is refused."""

from __future__ import annotations

import pytest
from recordings import one_leak

from kleaktrace.core.known_leaks import NOTHING_KNOWN, KnownLeak, KnownLeaks, KnownLeaksError, parse_known_leaks
from kleaktrace.core.report import Outcome
from kleaktrace.views.documents.report import document

STACK = ("drv_alloc.isra.0+0x22/0x100 [drv]", "drv_probe+0x12/0x40 [drv]", "do_one_initcall+0x22/0x1000")


def known(text: str) -> KnownLeaks:
    return parse_known_leaks(text, "known.txt")


def test_a_line_names_a_function_and_may_name_its_module() -> None:
    text = "# ours\n\n drv_probe   # mend on its way\nnf_* [nf_tables]\nfoo.isra.0+0x1/0x2 [foo-bar]\n"
    assert known(text).leaks == (
        KnownLeak("drv_probe", "", 3),
        KnownLeak("nf_*", "nf_tables", 4),
        KnownLeak("foo", "foo-bar", 5),
    )


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        ("drv_probe", True),
        ("drv_alloc", True),
        ("drv_alloc.isra.0+0x22/0x100 [drv]", True),
        ("drv_*", True),
        ("* [drv]", True),
        ("do_one_initcall", True),
        ("drv", False),
        ("probe", False),
        ("drv_probe [other]", False),
        ("do_one_initcall [drv]", False),
        ("drv_prob?", True),
        ("d?v_alloc [d*]", True),
        ("drv_allocx", False),
    ],
)
def test_it_holds_for_a_stack_that_passes_through_the_function(line: str, holds: bool) -> None:
    assert (known(line).of(STACK) is not None) is holds


def test_the_first_line_that_holds_counts() -> None:
    both = known("drv_probe\ndrv_alloc\n")
    assert both.of(STACK) is both.leaks[0]


def test_code_without_a_name_is_never_known() -> None:
    assert known("0*\n* [drv]").of(("0xffffffffc0100022",)) is None


@pytest.mark.parametrize("line", ["*", "**", "?*", "* [*]", "two words", "[drv]", "drv_probe [drv", "drv/probe"])
def test_what_names_nothing_or_everything_is_refused_by_its_line(line: str) -> None:
    with pytest.raises(KnownLeaksError) as refused:
        known(f"good\n{line}\n")
    assert refused.value.line == 2


def test_what_is_known_does_not_count_and_is_told_of_apart() -> None:
    recording, told = one_leak()
    suspects = recording.judge()
    assert told.outcome is Outcome.LEAKS
    apart = recording.report(suspects, known("nothing_of_this\ndrv_probe\n"))
    assert apart.outcome is Outcome.CLEAN
    assert apart.suspects == []
    assert [list(one.suspects) for one in apart.known] == [[], suspects]
    others = recording.report(suspects, known("nothing_of_this\n"))
    assert (others.outcome, others.suspects) == (told.outcome, told.suspects)
    assert recording.report(suspects, NOTHING_KNOWN) == told


def test_nothing_of_it_is_missing_in_the_document() -> None:
    recording, told = one_leak()
    apart = document(recording.report(recording.judge(), known("drv_probe")))
    before = document(told)
    assert (apart["suspects"], apart["known"][0]["suspects"]) == ([], before["suspects"])
    assert apart["totals"] == before["totals"]
    assert apart["outstanding"] == before["outstanding"]
