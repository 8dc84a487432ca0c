# SPDX-License-Identifier: GPL-2.0-or-later
"""No unit test is timed: on a busy machine a slow example is no failure.

Where CI is set the examples are always the same ones, so that a change is judged by what it changes; by hand they
differ from run to run, and find what nobody thought of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from made_up_source import MadeUpSource

from kleaktrace.session.session import Session

settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    database=None if os.environ.get("CI") else settings.default.database,
)
settings.load_profile("untimed")


@pytest.fixture
def source() -> MadeUpSource:
    """Give a source that has nothing to tell yet."""
    return MadeUpSource()


@pytest.fixture
def session(source: MadeUpSource) -> Iterator[Session]:
    """Give a session that the source feeds."""
    with Session(source) as session:
        yield session
