# SPDX-License-Identifier: GPL-2.0-or-later
"""The questions of docs/queries.md, asked of two captures: one with everything in it, and one that lost events."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from questions import PAGE, QUESTIONS, sources

from kleaktrace.edge.database.duckdb_tables import ask

pytestmark = pytest.mark.formats

LEAK, MANY, LOST, OTHER = "ab3001651563cb7b", "d80e7e1671a7018e", "e3b0c44298fc1c14", "2d5d53ed31d50519"
LEAKED, LEAKED_TOO = "0xffff888100010000", "0xffff888100020000"

ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "Which captures hold leaks, and how much can their verdicts be trusted?": [
        ("all.cap", "leaks", 0, 0, []),
        ("lossy.cap", "incomplete", 7, 0, ["7 events were lost"]),
    ],
    "What leaked, in which module?": [("drv", "drv_probe", 256, [LEAK])],
    "Who holds the most memory?": [
        (MANY, "core_alloc", 60, 7680, "growing"),
        (LOST, None, 1, 5056, "alive"),
        (LEAK, "drv_probe", 2, 256, "confirmed"),
    ],
    "How old is what a stack holds?": [(5, 2, 256)],
    "What has outlived 99 of 100 of its freed siblings?": [
        (LEAK, LEAKED, 59.0, 1.073741824),
        (LEAK, LEAKED_TOO, 58.5, 1.073741824),
    ],
    "Who grew between two moments?": [(MANY, "core_alloc", 2560)],
    "Which hosts show a stack?": [("lab", "6.12.0", 1, 2)],
    "Which tasks allocated what is left?": [("insmod", 42, "task", 64, 13120), ("other", 7, "task", 1, 128)],
    "What is allocated again and again, and never freed?": [(MANY, "core_alloc", 60, 7680)],
    "Where is freed what has leaked siblings?": [("drv_probe", "core_free+0x22/0x1000", 1, 2)],
    "Which suspects were alive while events were lost?": [(OTHER, LEAKED, "undecided", 7)],
}


@pytest.fixture(scope="module")
def asked() -> Callable[[str], list[tuple[Any, ...]]]:
    both = sources()
    return lambda sql: list(ask(both, sql).rows)


def test_every_question_is_answered() -> None:
    assert set(QUESTIONS) == set(ANSWERS)
    assert len(QUESTIONS) >= 10


@pytest.mark.parametrize("question", ANSWERS)
def test_the_answer(asked: Callable[[str], list[tuple[Any, ...]]], question: str) -> None:
    assert asked(QUESTIONS[question]) == ANSWERS[question]


def test_every_column_is_described(asked: Callable[[str], list[tuple[Any, ...]]]) -> None:
    described = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    tables = [name for (name,) in asked("SHOW TABLES")]
    assert set(described) == set(tables)
    for table in tables:
        columns = [row[0] for row in asked(f"DESCRIBE {table}")]
        assert columns[:2] == ["capture", "host"]
        assert set(columns[2:]) <= set(re.findall(r"`(\w+)`", described[table])), table
