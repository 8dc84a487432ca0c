# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents are held to the schema that `kleaktrace schema` prints, and to no field beyond it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from kleaktrace.views.documents.schema import schema_text


@cache
def _validator(kind: str) -> Draft202012Validator:
    schema = json.loads(schema_text())
    _close(schema["$defs"])
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})


def _close(value: Any) -> None:
    """A field that the schema does not know is one that was forgotten in it."""
    if isinstance(value, dict):
        if "properties" in value:
            value.setdefault("additionalProperties", False)
        for inner in value.values():
            _close(inner)
    elif isinstance(value, list):
        for inner in value:
            _close(inner)


def validated(document: Any) -> Any:
    """The document, which is as its schema says."""
    tell = {"rates": "rates", "checks": "doctor", "objects": "kmemleak", "changes": "comparison"}
    kind = next((tell[field] for field in tell if field in document), "report")
    _validator(kind).validate(document)
    return document
