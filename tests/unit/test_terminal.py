# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.terminal import clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kworker/0:1-events", "kworker/0:1-events"),
        ("größer ≥ 名前", "größer ≥ 名前"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
        ("\x9b31m", "\\x9b31m"),
        ("right-to-left \u202e", "right-to-left \\u202e"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(st.characters()))
def test_what_is_clean_can_be_printed_and_stays_as_it_is(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert clean(shown) == shown
    assert len(shown) >= len(text)
    shown.encode()
