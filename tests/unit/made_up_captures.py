# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures that the test makes up, for commands that read one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kleaktrace.core.recording import Recording
from kleaktrace.edge.capture import capture_reader


def captures_are(monkeypatch: pytest.MonkeyPatch, made: Callable[[str], Recording]) -> None:
    """Have every capture be what `made` gives for the last part of its name."""

    def read_capture(path: Path) -> Recording:
        return made(path.name)

    monkeypatch.setattr(capture_reader, "read_capture", read_capture)
