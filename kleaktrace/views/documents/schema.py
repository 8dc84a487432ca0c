# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schema of all documents (schema.json)."""

from __future__ import annotations

from importlib.resources import files


def schema_text() -> str:
    """The schema, as it lies in the package."""
    return files(__package__).joinpath("schema.json").read_text(encoding="utf-8")
