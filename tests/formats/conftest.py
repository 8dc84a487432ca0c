# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read: every format of the recordings that unit tests are made with, as files."""

from __future__ import annotations

from pathlib import Path

import exported
import pytest
from readers import Written

from kleaktrace.views.exports.formats import FORMATS


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Give a function that writes a recording of tests/unit/exported.py in a format: written("hostile", "folded")."""

    def write(recording: str, name: str) -> Path:
        content = FORMATS[name].export(exported.exported(getattr(exported, recording)()))
        path = tmp_path / f"{recording}.{name}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
