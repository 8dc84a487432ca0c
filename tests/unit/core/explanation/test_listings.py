# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from kleaktrace.core.explanation.conclusions import Conclusion, Likelihood, explain
from kleaktrace.core.explanation.listings import once_each
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.kmemleak_text import UNREAD, KmemleakText, Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

ASKED = KmemleakFrame(None, "drv_probe", 0x44, 0xF0, "drv")
CORE = KmemleakFrame(None, "device_add", 0x44, 0xF0)
GONE = KmemleakFrame(0xFFFFFFFFC03A204B)
ONE = Suspect(0xFFFF888000000100, 64, SuspectKind.SLAB, "tool", 7, 9, 50.0, 5, (CORE,), 0, 1)
LATER = replace(ONE, age_s=60.0, line=11)
OTHER = replace(ONE, address=0xFFFF888000000200)


def conclude(*suspects: Suspect) -> Conclusion:
    (one,) = explain(KmemleakText(suspects, ())).conclusions
    return one


def test_listings_of_one_object_become_one() -> None:
    found = once_each((ONE, OTHER, LATER))
    assert found.objects == (replace(ONE, age_s=60.0), OTHER)
    assert found.of(found.objects[0]) == (ONE, LATER)
    assert found.of(OTHER) == (OTHER,)


def test_an_address_that_is_used_again_is_another_object() -> None:
    again = replace(LATER, jiffies=10)
    assert once_each((ONE, again)).objects == (ONE, again)


def test_nobody_can_tell_of_damaged_listings() -> None:
    damaged = replace(ONE, jiffies=UNREAD)
    assert once_each((damaged, damaged)).objects == (damaged, damaged)


def test_names_are_kept_that_a_later_listing_has_not() -> None:
    named, nameless = replace(ONE, frames=(ASKED,)), replace(LATER, frames=(GONE,))
    assert once_each((named, nameless)).objects[0].frames == (ASKED,)


@pytest.mark.parametrize(
    ("suspects", "said"),
    [
        ((ONE, replace(ONE, age_s=650.0)), "listed twice, 600 s apart"),
        ((ONE, LATER, replace(LATER, age_s=950.0)), "listed 3 times, 900 s apart"),
        ((ONE, replace(ONE, age_s=750.0), OTHER), "1 of them listed twice, 700 s apart"),
        ((ONE, LATER, OTHER, replace(OTHER, age_s=661.0)), "all listed twice, up to 611 s apart"),
    ],
)
def test_being_there_after_another_scan_speaks_for_a_leak(suspects: tuple[Suspect, ...], said: str) -> None:
    assert said in conclude(*suspects).speaks_for


def test_a_file_that_was_read_again_before_the_next_scan_says_nothing_more() -> None:
    one = conclude(ONE, LATER)
    assert one.speaks_for == ()
    assert "listed twice, 10 s apart" in one.hints


@pytest.mark.parametrize("again", [ONE, replace(ONE, age_s=None)])
def test_a_text_pasted_twice_says_nothing_more(again: Suspect) -> None:
    one = conclude(ONE, again)
    assert one.speaks_for == ()
    assert "listed twice" in one.hints


def test_contents_that_change_speak_against_it() -> None:
    one = conclude(ONE, replace(LATER, crc=6))
    assert any("somebody still writes there" in phrase for phrase in one.speaks_against)
    assert one.likelihood is Likelihood.OPEN


def test_what_was_young_at_first_is_not_any_more() -> None:
    young = replace(ONE, age_s=2.0)
    assert any("younger than" in phrase for phrase in conclude(young).speaks_against)
    assert conclude(young, replace(young, age_s=700.0)).speaks_against == ()
