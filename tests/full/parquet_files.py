# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories that `kleaktrace export --format parquet` has filled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up_captures import captures_are

from kleaktrace.commands.export import export
from kleaktrace.core.recording import Recording

Captures = Mapping[str, Recording]
"""By their names."""


def export_all(captures: Captures, directory: Path) -> Path:
    """Export captures below a directory, and return it."""
    with pytest.MonkeyPatch.context() as patch:
        captures_are(patch, captures.__getitem__)
        for name in captures:
            arguments = ["--format", "parquet", "-o", str(directory), name]
            assert CliRunner().invoke(export, arguments, catch_exceptions=False).exit_code == 0
    return directory
