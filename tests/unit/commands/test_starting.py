# SPDX-License-Identifier: GPL-2.0-or-later
"""A session begins by saying what this kernel does not show."""

from __future__ import annotations

import pytest
from made_up_source import MadeUpSource

from kleaktrace.commands.starting import say_unseen
from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.session.session import Session


def said(capsys: pytest.CaptureFixture[str], *more: Coverage) -> str:
    source = MadeUpSource()
    source.coverage = (*source.coverage, *more)
    with Session(source) as session:
        say_unseen(session)
    return capsys.readouterr().err


def test_nothing_is_said_where_all_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == ""


def test_what_is_not_seen_is_said_in_one_line_with_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = (CoverageKind.SLAB_BULK_ALLOC, CoverageKind.MODULES)
    assert said(capsys, *(Coverage(kind, None, "are not seen") for kind in kinds)) == (
        "kleaktrace: not seen on this kernel: slab-bulk-alloc, modules: verdicts that hang on these stay undecided "
        "(kleaktrace doctor)\n"
    )
