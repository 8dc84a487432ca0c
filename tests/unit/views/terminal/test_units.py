# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.views.terminal import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (129, "129 B"),
        (1023, "1023 B"),
        (1023.6, "1.0 KiB"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1.25 * 1024**2, "1.2 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (3000 * 1024**4, "3000.0 TiB"),
        (-129, "-129 B"),
        (-4096.0, "-4.0 KiB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (0.25, "0.2"), (3.21, "3.2"), (99.4, "99.4"), (123.4, "123"), (12_480, "12.5k")]
)
def test_rates(rate: float, text: str) -> None:
    assert units.rate(rate) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0, "0 ms"),
        (0.0000019, "2 µs"),
        (0.00049, "490 µs"),
        (0.0034, "3 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1.24, "1.2 s"),
        (119.9, "119.9 s"),
        (119.96, "1 min 59 s"),
        (250, "4 min 10 s"),
        (7199, "119 min 59 s"),
        (7500, "2 h 5 min"),
        (100 * 3600, "100 h 0 min"),
    ],
)
def test_stretches_of_time(duration: float, text: str) -> None:
    assert units.seconds(duration) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (1204, "1,204 events")])
def test_counts(number: int, text: str) -> None:
    assert units.count(number, "event") == text


def test_irregular_plurals() -> None:
    assert (units.count(1, "entry", "entries"), units.count(2, "entry", "entries")) == ("1 entry", "2 entries")


@given(st.floats(0, 1e15))
def test_no_figure_reaches_the_next_unit(count: float) -> None:
    found = re.fullmatch(r"([\d.]+) (B|KiB|MiB|GiB|TiB)", units.size(count))
    assert found
    assert float(found[1]) < 1024 or found[2] == "TiB"
