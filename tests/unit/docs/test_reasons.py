# SPDX-License-Identifier: GPL-2.0-or-later
"""Every reason that a verdict can have is explained in docs/reading-verdicts.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from kleaktrace.core.kept_on_purpose import BOOKKEEPING, RECLAIMABLE, RULES, Rule

PROJECT = Path(__file__).resolve().parents[3]
PAGE = " ".join((PROJECT / "docs" / "reading-verdicts.md").read_text().split())
VERDICTS = PROJECT / "kleaktrace" / "core" / "verdicts"


def phrases(path: Path) -> Iterator[str]:
    """The text between the values in whatever a module may say, without what only documents it."""
    tree = ast.parse(path.read_text())
    documents = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            words = node.value.strip(" ,;:")
            if words.count(" ") >= 2:
                yield words


REASONS = sorted({words for path in VERDICTS.glob("*.py") for words in phrases(path)})


def test_reasons_are_found() -> None:
    assert len(REASONS) > 30


@pytest.mark.parametrize("words", REASONS)
def test_reason_is_explained(words: str) -> None:
    assert words in PAGE


@pytest.mark.parametrize("rule", [RECLAIMABLE, BOOKKEEPING, *RULES], ids=lambda rule: rule.name)
def test_what_is_kept_on_purpose_is_listed(rule: Rule) -> None:
    assert f"| {rule.name} | {rule.reason} |" in PAGE
